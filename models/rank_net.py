"""The ranker's network: target attention, low-rank DCN-v2, and a mixture of experts with one gate per head.

Wang et al. 2021 (DCN V2) for the cross layers, Ma et al. 2018 (MMoE) for the gates. N rows, D inputs, W
outputs of the attention, H heads, X experts.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.attention import STEEPEST, TargetAttention, attend

POSITIONS = 64  # 0 unknown, then places 0 to 61, then all deeper ones


class CrossLayer(nn.Module):
    """x0 ⊙ (U(Vx) + b) + x, of rank r."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        crossed: Tensor = x0 * self.up(self.down(x)) + x
        return crossed


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    heads: int
    """Probabilities."""
    bins: int
    """Bins of watch time."""
    width: int
    experts: int
    rank: int
    layers: int
    viewer: int
    """Inputs that are the same for all of a viewer's candidates, after normalisation; the first ones."""
    video: int
    """Inputs that are the candidate's own."""
    vector: int
    """Length of a video's vector; 0 leaves the attention out."""
    attention: int
    attention_heads: int


@dataclass(frozen=True)
class Batch:
    """N rows in V groups, each of a viewer's rows.

    inputs: float32[N, D], normalised, the viewer's first; candidate: float32[N, E]
    group, slot: int64[N], the row's group and its number there
    past: float32[V, L, E]; strength, age_s: float32[V, L]; mask: bool[V, L], False for padding
    """

    inputs: Tensor
    candidate: Tensor
    group: Tensor
    slot: Tensor
    past: Tensor
    strength: Tensor
    age_s: Tensor
    mask: Tensor


class RankNet(nn.Module):
    """A batch to logits: of heads float32[N, H], of watch-time bins float32[N, bins]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.viewer + shape.video
        if shape.vector:
            self.attention = TargetAttention(shape.vector, shape.attention, shape.attention_heads)
            width += 2 * shape.attention
        self.crosses = nn.ModuleList(CrossLayer(width, shape.rank) for _ in range(shape.layers))
        self.bottom = nn.Linear(width, shape.width)
        self.experts = nn.Linear(shape.width, shape.experts * (shape.width // 2))
        self.gates = nn.Linear(width, (shape.heads + 1) * shape.experts)
        self.wide = nn.Linear(width, shape.heads)
        self.tops = nn.Parameter(torch.randn(shape.heads, shape.width // 2) / shape.width**0.5)
        self.watch = nn.Linear(shape.width // 2, shape.bins)
        self.position = nn.Embedding(POSITIONS, shape.heads)
        nn.init.zeros_(self.position.weight)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x0 = x = self._joined(batch)
        for layer in self.crosses:
            x = layer(x0, x)
        heads, experts = self.shape.heads, self.shape.experts
        mixed = self.experts(self.bottom(x).relu()).relu().unflatten(1, (experts, self.shape.width // 2))
        gates = self.gates(x).clamp(-STEEPEST, STEEPEST).unflatten(1, (heads + 1, experts)).softmax(dim=2)
        towers = gates @ mixed  # [N, H + 1, width / 2]
        logits = (towers[:, :heads] * self.tops).sum(dim=2) + self.wide(x0)
        return logits, self.watch(towers[:, heads])

    def position_bias(self, position: Tensor) -> Tensor:
        """int64[N] (-1 unknown) to what a place in the slate adds to each head's logit, float32[N, heads]."""
        bias: Tensor = self.position(torch.clamp(position + 1, 0, POSITIONS - 1))
        return bias

    @property
    def cross_layers(self) -> list[CrossLayer]:
        return cast(list[CrossLayer], list(self.crosses))

    def forget_attention(self) -> None:
        """Begin anew with what reads videos' vectors: directions mean something else in other towers."""
        shape = self.shape
        self.attention = TargetAttention(shape.vector, shape.attention, shape.attention_heads)
        readers = [self.bottom, self.gates, self.wide, *(layer.down for layer in self.cross_layers)]
        with torch.no_grad():
            for reader in readers:
                reader.weight[:, shape.viewer + shape.video :] = 0

    def _joined(self, batch: Batch) -> Tensor:
        """Inputs, what of the history is like the candidate, and the candidate as the attention sees it."""
        if not self.shape.vector:
            return batch.inputs
        keys, values, worth = self.attention.entries(batch.past, batch.strength, batch.age_s)
        worth = worth.masked_fill(~batch.mask[:, None], -torch.inf)
        queries = self.attention.queries(batch.candidate)
        # A group's rows side by side, so that none needs a copy of its viewer's keys and values.
        size = int(batch.slot.max()) + 1 if len(batch.slot) else 0
        asked = queries.new_zeros(len(keys), size, *queries.shape[1:])
        asked = asked.index_put((batch.group, batch.slot), queries).transpose(1, 2)  # [V, A, size, d]
        found = attend(asked @ keys + worth[:, :, None], values).transpose(1, 2)[batch.group, batch.slot]
        return torch.cat([batch.inputs, found.flatten(1), queries.flatten(1)], dim=1)
