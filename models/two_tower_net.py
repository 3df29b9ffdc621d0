"""The two towers as torch modules.

A video's embedding is a sum over what is known of it; its direction is that sum, transformed. A viewer's
direction is attention over the embeddings of what they watched, with how much they cared and how long ago.
Both start out as the plain sum and the plain mean: what is learned is the difference.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.video_inputs import (
    AGE_BUCKETS,
    CATEGORY_BUCKETS,
    CREATOR_BUCKETS,
    DURATION_BUCKETS,
    TOKEN_BUCKETS,
    VISUAL,
)
from models.viewer_inputs import DEVICE_BUCKETS, HOURS, REGION_BUCKETS

START = 0.02
"""Standard deviation of the weights at the start."""
MASKED = -1e9
"""Logit of an entry that is not there."""


@dataclass(frozen=True)
class VideoBatch:
    """Inputs of n videos: int64[n], tokens int64[n, T], visual float32[n, V]; ``row`` is catalogue row + 1,
    0 for none."""

    row: Tensor
    tokens: Tensor
    category: Tensor
    creator: Tensor
    duration: Tensor
    visual: Tensor


class VideoTower(nn.Module):
    """Video -> embedding float32[n, E] and, with its age, direction float32[n, D] of length 1."""

    def __init__(self, videos: int, embedding: int, width: int) -> None:
        super().__init__()
        self.row = nn.Embedding(videos + 1, embedding, padding_idx=0, sparse=True)
        self.tokens = nn.EmbeddingBag(TOKEN_BUCKETS, embedding, mode="mean", padding_idx=0, sparse=True)
        self.creator = nn.Embedding(CREATOR_BUCKETS, embedding, padding_idx=0, sparse=True)
        self.category = nn.Embedding(CATEGORY_BUCKETS, embedding, padding_idx=0)
        self.duration = nn.Embedding(DURATION_BUCKETS, embedding, padding_idx=0)
        self.age = nn.Embedding(AGE_BUCKETS, embedding, padding_idx=0)
        self.visual = nn.Linear(VISUAL, embedding, bias=False)  # so that no picture adds nothing
        self.hidden = nn.Linear(embedding, 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.skip = nn.Linear(embedding, width, bias=False)
        for table in (self.row, self.tokens, self.creator, self.category, self.duration, self.age):
            nn.init.normal_(table.weight, std=START)
            with torch.no_grad():
                table.weight[0] = 0
        nn.init.normal_(self.visual.weight, std=START)
        nn.init.normal_(self.out.weight, std=START)
        _repeat_identity(self.skip, 1)

    def embed(self, videos: VideoBatch) -> Tensor:
        """float32[n, E]."""
        about = self._about(videos.category, videos.creator, videos.duration, videos.visual)
        of_video: Tensor = self.row(videos.row) + self.tokens(videos.tokens) + about
        return of_video

    def embed_content(
        self, tokens: Tensor, category: Tensor, creator: Tensor, duration: Tensor, visual: Tensor
    ) -> Tensor:
        """As :meth:`embed` of videos without a row, in operations that ONNX has."""
        known = (tokens > 0).unsqueeze(-1).float()
        words = (F.embedding(tokens, self.tokens.weight) * known).sum(1) / known.sum(1).clamp(min=1)
        content: Tensor = words + self._about(category, creator, duration, visual)
        return content

    def _about(self, category: Tensor, creator: Tensor, duration: Tensor, visual: Tensor) -> Tensor:
        parts = self.creator(creator) + self.category(category) + self.duration(duration)
        about: Tensor = parts + self.visual(visual)
        return about

    def direction(self, embedded: Tensor, age: Tensor) -> Tensor:
        """float32[n, D] from embeddings float32[n, E] and age buckets int64[n]."""
        x = embedded + self.age(age)
        return F.normalize(self.skip(x) + self.out(F.relu(self.hidden(x))), dim=-1)


class UserTower(nn.Module):
    """History -> direction float32[B, D] of length 1.

    H heads weigh the entries by a learned score of (embedding, strength, age). One entry is always there and
    stands for nobody in particular, so a viewer without a history has a direction too. Hour, device and
    region shift the hidden layer, each not at all where it is unknown.
    """

    def __init__(self, embedding: int, width: int, heads: int) -> None:
        super().__init__()
        self.signals = nn.Linear(5, embedding)
        self.key = nn.Linear(embedding, embedding)
        self.score = nn.Linear(embedding, heads)
        self.nobody = nn.Parameter(torch.empty(embedding))
        self.mix = nn.Linear(heads * embedding, 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.skip = nn.Linear(heads * embedding, width, bias=False)
        self.context = nn.ModuleList(
            nn.Embedding(buckets, 2 * width, padding_idx=0)
            for buckets in (HOURS, DEVICE_BUCKETS, REGION_BUCKETS)
        )
        for weight in self.context.parameters():
            nn.init.zeros_(weight)
        nn.init.normal_(self.signals.weight, std=START)
        nn.init.normal_(self.out.weight, std=START)
        nn.init.normal_(self.score.weight, std=START)
        nn.init.normal_(self.nobody, std=START)
        _repeat_identity(self.skip, heads)

    def forward(self, past: Tensor, strength: Tensor, age_s: Tensor, mask: Tensor, context: Tensor) -> Tensor:
        """past float32[B, L, E]; strength, age_s float32[B, L]; mask bool[B, L]; context int64[B, 3]."""
        age = torch.log1p(age_s) / 10
        signals = torch.stack(
            [strength, (strength > 0.5).float(), (strength < 0).float(), age, age * age], -1
        )
        entries = past + self.signals(signals)
        nobody = self.nobody.expand(past.shape[0], 1, -1)
        entries = torch.cat([entries, nobody], dim=1)  # (B, L + 1, E)
        logits = self.score(torch.tanh(self.key(entries)))  # (B, L + 1, H)
        there = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1).unsqueeze(-1)
        attention = logits.masked_fill(~there, MASKED).softmax(dim=1)
        pooled = torch.einsum("blh,ble->bhe", attention, entries).flatten(1)
        hidden = self.mix(pooled)
        for column, table in enumerate(self.context):
            hidden = hidden + table(context[:, column])
        return F.normalize(self.skip(pooled) + self.out(F.relu(hidden)), dim=-1)


class TwoTower(nn.Module):
    """Both towers."""

    def __init__(self, videos: int, embedding: int, width: int, heads: int) -> None:
        super().__init__()
        self.video = VideoTower(videos, embedding, width)
        self.user = UserTower(embedding, width, heads)


def _repeat_identity(layer: nn.Linear, times: int) -> None:
    """Let a layer start as the mean of ``times`` parts of its input, padded or cut to its width."""
    part = layer.in_features // times
    with torch.no_grad():
        layer.weight.copy_(torch.eye(layer.out_features, part).repeat(1, times) / times)
