"""A small residual network from thumbnails to vectors, trained on what the catalogue and the viewers say.

Three targets, each where there is something to learn from: the video's tags, its category, and which videos
are watched one after the other (InfoNCE within the batch: van den Oord et al., "Representation learning with
contrastive predictive coding", 2018). Pictures alone are read, so an upload has its vector at once.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.checks import require_positive
from models.video_inputs import VISUAL
from models.workers import torch_state
from upnext.errors import CorruptData, EmptyData

SIDE = 64
"""Pixels of a thumbnail's side."""
Pictures = NDArray[np.uint8]
"""uint8[n, SIDE, SIDE, 3], RGB."""


@dataclass(frozen=True)
class VisualConfig:
    """How the network is trained. The defaults were chosen on the world; figures are in docs/LOG.md."""

    channels: int = 16
    """Channels of the first stage; the second has twice as many."""
    videos: int = 6_000
    """Videos at most whose thumbnails are held for training."""
    samples: int = 10_000
    """Pictures seen: the budget of the run."""
    batch: int = 128
    """Pictures per step; where there are co-watches, half of them are partners of the others."""
    tags: int = 256
    """Distinct tags at most that are told apart, the most frequent."""
    co_watch: float = 0.5
    """Weight of the contrastive loss beside those of tags and category."""
    temperature: float = 0.1
    """What cosines of two pictures are divided by."""
    learning_rate: float = 4e-3
    grown: float = 0.2
    """The network is trained anew once there are more videos, by this share, than when it was trained."""
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(
            self, "channels", "videos", "samples", "tags", "temperature", "learning_rate", "threads"
        )
        if self.batch < 4:
            raise ValueError(f"batch is {self.batch}, not 4 or more")


@dataclass(frozen=True)
class Targets:
    """What n pictures are to tell.

    tags: float32[n, t], each row's share on its known tags, zeros where it has none; category: int64[n], -1
    unknown; pairs: int64[p, 2], places of videos that were watched one after the other.
    """

    tags: NDArray[np.float32]
    category: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        tags: Sequence[Sequence[str] | None],
        category: NDArray[np.integer],
        pairs: NDArray[np.int64],
        most: int = 256,
    ) -> "Targets":
        """From tags by video, category codes and pairs of places; of the tags the ``most`` frequent count."""
        counts = Counter(tag for of_video in tags for tag in set(of_video or ()))
        code = {tag: place for place, (tag, _) in enumerate(counts.most_common(most))}
        share = np.zeros((len(tags), len(code)), np.float32)
        for row, of_video in enumerate(tags):
            share[row, [code[tag] for tag in of_video or () if tag in code]] = 1
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
        return cls(share, category.astype(np.int64), pairs)

    def __len__(self) -> int:
        return len(self.category)

    @property
    def categories(self) -> int:
        return int(self.category.max(initial=-1)) + 1

    @property
    def empty(self) -> bool:
        """There is nothing to learn from."""
        return not (self.tags.any() or self.categories or len(self.pairs))


class VisualNet(nn.Module):
    """Pictures float32[n, 3, 64, 64] in [0, 1] -> vectors float32[n, VISUAL] of length 1."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=4, bias=False),  # 16 × 16
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            Residual(channels, channels),
            Residual(channels, 2 * channels, stride=2),  # 8 × 8
            Residual(2 * channels, 2 * channels),
        )
        self.out = nn.Linear(2 * channels, VISUAL)

    def forward(self, pictures: Tensor) -> Tensor:
        return F.normalize(self.out(self.body(2 * pictures - 1).mean(dim=(2, 3))), dim=-1)


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al., "Deep residual learning", CVPR 2016)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.change(x))


def train(
    pictures: Pictures, targets: Targets, config: VisualConfig, warm_start: VisualNet | None = None
) -> tuple[VisualNet, float]:
    """The network after training, and the mean loss of its last tenth; nan where nothing is to be learned.

    The same input and seed give the same weights. EmptyData without a picture, CorruptData where the loss is
    not finite.
    """
    if not len(pictures):
        raise EmptyData("no thumbnail to train the visual network on")
    with torch_state(config.seed, config.threads):
        net = (warm_start or VisualNet(config.channels)).to(memory_format=torch.channels_last)
        losses = [] if targets.empty else _Descent(net, pictures, targets, config).run()
    tail = losses[-max(1, len(losses) // 10) :]
    net = net.to(memory_format=torch.contiguous_format)
    return net.eval(), float(np.mean(tail)) if tail else math.nan


class _Descent:
    """Steps of AdamW with a cosine schedule."""

    def __init__(self, net: VisualNet, pictures: Pictures, targets: Targets, config: VisualConfig) -> None:
        self.net, self.pictures, self.targets, self.config = net.train(), pictures, targets, config
        self.rng = np.random.default_rng(config.seed)
        self.tags = nn.Linear(VISUAL, targets.tags.shape[1]) if targets.tags.any() else None
        self.category = nn.Linear(VISUAL, targets.categories) if targets.categories else None
        parts = [part for part in (net, self.tags, self.category) if part is not None]
        weights = [weight for part in parts for weight in part.parameters()]
        self.optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=1e-2)

    def run(self) -> list[float]:
        steps = max(1, self.config.samples // self.config.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, self.config.learning_rate, total_steps=steps + 1, pct_start=0.1
        )
        losses = []
        for _ in range(steps):
            loss = self._loss()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CorruptData(
                    f"the visual network's loss became {value} with learning_rate "
                    f"{self.config.learning_rate}: lower it"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            schedule.step()
            losses.append(value)
        return losses

    def _loss(self) -> Tensor:
        """Of half a batch of pairs, or of a batch of single pictures where nobody watched two."""
        half, pairs = self.config.batch // 2, self.targets.pairs
        if len(pairs):
            rows = pairs[self.rng.integers(0, len(pairs), half)].T.ravel()  # firsts, then their partners
            rows[: half // 2] = self.rng.integers(0, len(self.pictures), half // 2)
        else:
            rows = self.rng.integers(0, len(self.pictures), 2 * half)
        vectors = self.net(as_input(self.pictures[rows]))
        parts = [self._labels(vectors, rows)]
        if len(pairs):
            met = slice(half // 2, half)
            of_pairs = self._contrast(vectors[met], vectors[half:][met], rows[met], rows[half:][met])
            parts.append(self.config.co_watch * of_pairs)
        return torch.stack(parts).sum()

    def _labels(self, vectors: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Cross-entropies of tags and category, over vectors stretched so that a softmax can be sure."""
        stretched, loss = vectors / self.config.temperature, vectors.new_zeros(())
        if self.tags is not None:
            share = torch.from_numpy(self.targets.tags[rows])
            loss = loss - (share * F.log_softmax(self.tags(stretched), dim=-1)).sum(dim=-1).mean()
        if self.category is not None:
            code = torch.from_numpy(self.targets.category[rows])
            loss = loss + F.cross_entropy(
                self.category(stretched), code, ignore_index=-1, reduction="sum"
            ) / len(rows)
        return loss

    def _contrast(
        self, firsts: Tensor, partners: Tensor, first: NDArray[np.int64], partner: NDArray[np.int64]
    ) -> Tensor:
        """Each of the firsts against all partners but its own video and others' copies of its own partner."""
        logits = firsts @ partners.T / self.config.temperature
        same = (partner[:, None] == partner[None, :]) | (first[:, None] == partner[None, :])
        left_out = torch.from_numpy(same).fill_diagonal_(False)
        return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), torch.arange(len(logits)))


def as_input(pictures: Pictures) -> Tensor:
    """float32[n, 3, 64, 64] in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255)
