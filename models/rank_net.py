"""The ranker's network: normalisation, low-rank DCN-v2, and a mixture of experts with one gate per head.

Wang et al. 2021 (DCN V2) for the cross layers, Ma et al. 2018 (MMoE) for the gates. N rows, D inputs after
normalisation, H heads, E experts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CLIP = 20.0  # standard deviations; the best candidates' scores lie far above those of sampled videos
SAMPLE = 100_000  # rows that are enough for a mean and a spread
POSITIONS = 64  # 0 unknown, then places 0 to 61, then all deeper ones


@dataclass(frozen=True)
class Moments:
    """How numeric inputs are put on one scale, found on the training rows.

    log: bool[D], sign(x)·log(1 + |x|) is taken first; mean, std: float32[D], after that;
    missing: int64[M], columns that are sometimes unknown and get an indicator.
    """

    log: NDArray[np.bool_]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    missing: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> "Moments":
        """From float32[N, D]; the logarithm is taken of columns whose tails it shortens.

        Some SAMPLE rows, evenly spaced, give the moments; all of them tell what is ever unknown.
        """
        missing = np.flatnonzero(~np.isfinite(rows).all(axis=0))
        rows = rows[:: max(1, len(rows) // SAMPLE)]
        plain = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        logged = np.sign(plain) * np.log1p(np.abs(plain))
        log = _kurtosis(logged) < _kurtosis(plain)
        chosen = np.where(log, logged, plain)
        mean, std = _moments(chosen)
        return cls(log, mean.astype(np.float32), np.where(std > 1e-6, std, 1).astype(np.float32), missing)


def _moments(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0).sum(axis=0) / count
    return mean, np.sqrt(np.where(known, (rows - mean) ** 2, 0).sum(axis=0) / count)


def _kurtosis(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, std = _moments(rows)
    scaled = np.where(np.isnan(rows), 0, rows - mean) / np.maximum(std, 1e-9)
    return np.asarray((scaled**4).mean(axis=0))


class Normalise(nn.Module):
    """float32[N, D] with NaN to float32[N, D + M] without: standardised inputs, then what was unknown."""

    log: Tensor
    mean: Tensor
    std: Tensor
    missing: Tensor

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self.register_buffer("log", torch.tensor(moments.log))
        self.register_buffer("mean", torch.tensor(moments.mean))
        self.register_buffer("std", torch.tensor(moments.std))
        self.register_buffer("missing", torch.tensor(moments.missing))
        self.width = len(moments.mean) + len(moments.missing)

    def forward(self, x: Tensor) -> Tensor:
        known = x.abs() < torch.inf
        x = torch.where(known, x, 0.0)
        x = torch.where(self.log, torch.sign(x) * torch.log1p(x.abs()), x)
        x = ((x - self.mean) / self.std).clamp(-CLIP, CLIP)
        x = torch.where(known, x, 0.0)
        return torch.cat([x, (~known).float()[:, self.missing]], dim=1)


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


class RankNet(nn.Module):
    """Joined inputs float32[N, d] to logits: of heads float32[N, H], of watch-time bins float32[N, bins]."""

    def __init__(self, shape: Shape, moments: Moments) -> None:
        super().__init__()
        self.shape = shape
        self.normalise = Normalise(moments)
        width = self.normalise.width
        self.crosses = nn.ModuleList(CrossLayer(width, shape.rank) for _ in range(shape.layers))
        self.bottom = nn.Linear(width, shape.width)
        self.experts = nn.Linear(shape.width, shape.experts * (shape.width // 2))
        self.gates = nn.Linear(width, (shape.heads + 1) * shape.experts)
        self.wide = nn.Linear(width, shape.heads)
        self.tops = nn.Parameter(torch.randn(shape.heads, shape.width // 2) / shape.width**0.5)
        self.watch = nn.Linear(shape.width // 2, shape.bins)
        self.position = nn.Embedding(POSITIONS, shape.heads)
        nn.init.zeros_(self.position.weight)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict(self.normalise(inputs))

    def predict(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """The same from normalised inputs float32[N, D], which training computes but once."""
        x = x0
        for layer in self.crosses:
            x = layer(x0, x)
        heads, experts = self.shape.heads, self.shape.experts
        mixed = self.experts(self.bottom(x).relu()).relu().unflatten(1, (experts, self.shape.width // 2))
        gates = self.gates(x).unflatten(1, (heads + 1, experts)).softmax(dim=2)
        towers = gates @ mixed  # [N, H + 1, width / 2]
        logits = (towers[:, :heads] * self.tops).sum(dim=2) + self.wide(x0)
        return logits, self.watch(towers[:, heads])

    def position_bias(self, position: Tensor) -> Tensor:
        """int64[N] (-1 unknown) to what a place in the slate adds to each head's logit, float32[N, heads]."""
        bias: Tensor = self.position(torch.clamp(position + 1, 0, POSITIONS - 1))
        return bias


class Served(nn.Module):
    """What is exported: blocks in, one float32[C, heads + 1] out, probabilities and then expected seconds.

    user and context: float32[1, d] for one viewer, or [C, d]; video and cross: float32[C, d].
    """

    scale: Tensor
    shift: Tensor
    seconds: Tensor

    def __init__(
        self,
        net: RankNet,
        scale: NDArray[np.float32],
        shift: NDArray[np.float32],
        seconds: NDArray[np.float32],
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))
        self.register_buffer("seconds", torch.tensor(seconds))

    def forward(self, user: Tensor, context: Tensor, video: Tensor, cross: Tensor) -> Tensor:
        rows = cross.shape[0]
        blocks = [user.expand(rows, -1), context.expand(rows, -1), video, cross]
        logits, bins = self.net(torch.cat(blocks, dim=1))
        probabilities = torch.sigmoid(logits * self.scale + self.shift)
        seconds = bins.softmax(dim=1) @ self.seconds
        return torch.cat([probabilities, seconds[:, None]], dim=1)
