"""The loop that trains the ranker's network, in one process or in several."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import cos, pi
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.adam import AdamW
from models.checks import require_positive
from models.rank_data import BLOCKS, RankData, RankSchema
from models.rank_net import Batch, RankNet
from models.rank_scale import Scale
from models.rank_targets import PROBABILITIES, Targets
from models.workers import Workers
from upnext.errors import DataError

WATCH_LOSS = 0.25  # weight of the bins' cross-entropy, a few nats, beside losses of half a nat
CLIP = 5.0  # norm of a gradient at most
GROUP = 16  # rows of a viewer that attend to the history together; more are several groups
EVALUATED = 8_192  # rows at once where no gradient is wanted

Progress = Callable[[int, float, float], None]


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained."""

    epochs: int = 4
    """At most; it stops earlier when the validation loss does not fall."""
    patience: int = 2
    """Epochs without a fall before it stops."""
    batch_size: int = 1_024
    """Rows."""
    learning_rate: float = 2e-3
    """At the start; it falls to 0 as a half cosine over all epochs."""
    weight_decay: float = 1e-4
    width: int = 64
    """Units of the shared bottom; an expert has half as many."""
    experts: int = 4
    rank: int = 16
    """Of the cross layers."""
    layers: int = 2
    """Cross layers."""
    attention: int = 32
    """Width of what the attention finds in a history, a multiple of its heads."""
    attention_heads: int = 2
    bins: int = 32
    """Bins of watch time at most."""
    seed: int = 0
    threads: int = 1
    """Of each process. More help only where the cores are idle: on shared ones they wait for each other."""
    processes: int = 1
    """Of this machine, trained together through torchrun; the result is the same up to rounding."""

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "patience", "batch_size", "learning_rate", "experts", "rank")
        require_positive(self, "attention", "attention_heads", "bins", "threads", "processes")
        if self.width < 2:
            raise ValueError(f"width is {self.width}, not 2 or more: an expert has half as many")
        if self.attention % self.attention_heads:
            raise ValueError(
                f"attention is {self.attention}, no multiple of attention_heads, {self.attention_heads}"
            )


@dataclass(frozen=True)
class Timing:
    """Rows seen in training, seconds that it took, and seconds of them spent on gathering batches."""

    rows: int = 0
    seconds: float = 0.0
    waiting_s: float = 0.0


@dataclass(frozen=True)
class Rows:
    """Training rows as tensors: normalised inputs float32[k, D], position int64[k], and their targets.

    viewer, video: int64[k]; past int64[V, L] in rows of ``vectors`` float32[n, E], 0 where ``mask`` is
    False; strength, age_s: float32[V, L].
    """

    inputs: Tensor
    position: Tensor
    labels: Tensor
    weights: Tensor
    bins: Tensor
    viewer: Tensor
    video: Tensor
    vectors: Tensor
    past: Tensor
    strength: Tensor
    age_s: Tensor
    mask: Tensor

    @classmethod
    def of(
        cls,
        data: RankData,
        schema: RankSchema,
        scales: Mapping[str, Scale],
        targets: Targets,
        device: str = "cpu",
    ) -> "Rows":
        def tensor(array: NDArray[np.generic], dtype: torch.dtype) -> Tensor:
            return torch.tensor(np.asarray(array), dtype=dtype, device=device)

        data.check(schema)
        inputs = torch.empty(len(data), sum(scales[block].width for block in BLOCKS), device=device)
        for at in range(0, len(data), EVALUATED):
            part = slice(at, at + EVALUATED)
            inputs[part] = torch.from_numpy(data[part].inputs(scales)).to(device)
        videos, vectors, past = data.held_against(schema)
        return cls(
            inputs=inputs,
            position=tensor(data.position, torch.int64),
            labels=tensor(targets.labels, torch.float32),
            weights=tensor(targets.weights, torch.float32),
            bins=tensor(targets.bins, torch.int64),
            viewer=tensor(data.viewer, torch.int64),
            video=tensor(videos, torch.int64),
            vectors=tensor(vectors, torch.float32),
            past=tensor(np.maximum(past.rows, 0), torch.int64),
            strength=tensor(past.strength, torch.float32),
            age_s=tensor(past.age_s, torch.float32),
            mask=tensor(past.mask, torch.bool),
        )

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: Tensor) -> Batch:
        """What the network reads of rows int64[N], those of one viewer next to each other."""
        viewer = self.viewer[rows]
        _, run, length = torch.unique_consecutive(viewer, return_inverse=True, return_counts=True)
        number = torch.arange(len(rows), device=rows.device) - (length.cumsum(0) - length)[run]
        _, group = torch.unique_consecutive(run * len(rows) + number // GROUP, return_inverse=True)
        slot = number % GROUP
        known = viewer[slot == 0] if len(self.past) else viewer[:0]
        return Batch(
            inputs=self.inputs[rows],
            candidate=self.vectors[self.video[rows]],
            group=group,
            slot=slot,
            past=self.vectors[self.past[known]],
            strength=self.strength[known],
            age_s=self.age_s[known],
            mask=self.mask[known],
        )

    def by_viewer(self, order: Tensor) -> Tensor:
        """All rows int64[k], viewers in an ``order`` int64[V'], a permutation of all their numbers."""
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return torch.argsort(place[self.viewer], stable=True)

    @property
    def viewers(self) -> int:
        return int(self.viewer.max()) + 1 if len(self) else 0


class Objective(nn.Module):
    """Sum over heads of the mean cross-entropy of their known labels, and that of the watch-time bins."""

    placed: Tensor

    def __init__(self, net: RankNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("placed", torch.tensor([head != "relevance" for head in PROBABILITIES]))

    def forward(
        self, batch: Batch, position: Tensor, labels: Tensor, weights: Tensor, bins: Tensor, known: Tensor
    ) -> Tensor:
        """``known`` float32[H + 1]: labels that the means are over, also those that other processes hold."""
        logits, seconds = self.net(batch)
        logits = logits + self.net.position_bias(position) * self.placed
        losses = F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none")
        watch = F.cross_entropy(seconds, bins, ignore_index=-1, reduction="sum")
        return (losses.sum(dim=0) / known[:-1]).sum() + WATCH_LOSS * watch / known[-1]


def train(
    net: RankNet,
    rows: Rows,
    valid: Rows,
    config: RankerConfig,
    workers: Workers,
    progress: Progress | None = None,
) -> tuple[list[dict[str, float]], Timing]:
    """Train in place and leave the weights of the best epoch; losses by epoch, and what it took."""
    optimiser = AdamW(net.parameters(), config.weight_decay)
    objective = Objective(net).to(workers.device)
    together = workers.together(objective)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    step = worse = 0
    waiting, seconds = 0.0, 0.0
    best, kept, history = np.inf, deepcopy(net.state_dict()), []
    for epoch in range(1, config.epochs + 1):
        net.train()
        total, started = torch.zeros(1, device=workers.device), perf_counter()
        everything = rows.by_viewer(torch.randperm(rows.viewers).to(workers.device))
        for whole in torch.split(everything, config.batch_size):
            asked = perf_counter()
            mine = workers.share(whole)
            inputs, known = _inputs(rows, mine), workers.total(_known(rows, mine)).clamp(min=1)
            waiting += perf_counter() - asked
            loss = together(*inputs, known)
            (loss * workers.size).backward()  # gradients are averaged over processes: the sum is wanted
            torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimiser.step(config.learning_rate * (1 + cos(pi * step / steps)) / 2)
            step += 1
            total += loss.detach() * len(whole)
        train_loss = float(workers.total(total)) / len(rows)
        seconds += perf_counter() - started
        if not np.isfinite(train_loss):
            raise DataError(
                f"the loss is {train_loss} in epoch {epoch}: lower learning_rate, {config.learning_rate}"
            )
        valid_loss = _evaluate(objective, valid, workers)
        history.append({"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss})
        if progress:
            progress(epoch, train_loss, valid_loss)
        if not valid_loss >= best:  # NaN, without validation rows: the last epoch is the best
            best, worse = float(np.fmin(valid_loss, best)), 0
            kept = deepcopy(net.state_dict())
        else:
            worse += 1
        if worse >= config.patience:
            break
    net.load_state_dict(kept)
    net.eval()
    return history, Timing(len(history) * len(rows), seconds, waiting)


def predict(
    net: RankNet, rows: Rows, seconds: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Uncalibrated logits float64[k, H] and expected seconds float64[k]; ``seconds``: means of the bins."""
    logits = np.zeros((len(rows), net.shape.heads))
    expected = np.zeros(len(rows))
    with torch.inference_mode():
        for part in _parts(rows):
            heads, bins = net(rows.batch(part))
            place = part.cpu().numpy()
            logits[place] = heads.cpu().numpy()
            expected[place] = bins.softmax(dim=1).cpu().numpy() @ seconds
    return logits, expected


def _inputs(rows: Rows, mine: Tensor) -> tuple[Batch, Tensor, Tensor, Tensor, Tensor]:
    return rows.batch(mine), rows.position[mine], rows.labels[mine], rows.weights[mine], rows.bins[mine]


def _known(rows: Rows, mine: Tensor) -> Tensor:
    """How many labels each head has, and how many seconds are known, float32[H + 1]."""
    watched = (rows.bins[mine] >= 0).sum()
    return torch.cat([rows.weights[mine].sum(dim=0), watched.float()[None]])


def _parts(rows: Rows) -> Iterator[Tensor]:
    """All rows in parts, those of one viewer together."""
    yield from torch.split(torch.argsort(rows.viewer, stable=True), EVALUATED)


def _evaluate(objective: Objective, rows: Rows, workers: Workers) -> float:
    """Mean loss; each process takes its share."""
    objective.net.eval()
    total = torch.zeros(1, device=rows.inputs.device)
    with torch.inference_mode():
        for whole in _parts(rows):
            mine = workers.share(whole)
            known = workers.total(_known(rows, mine)).clamp(min=1)
            total += objective(*_inputs(rows, mine), known) * len(whole)
    return float(workers.total(total)) / len(rows) if len(rows) else float("nan")
