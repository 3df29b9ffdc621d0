"""Training of the multi-task ranker and its export to ONNX; :mod:`models.scorer` runs what it writes.

Heads: P(click), P(watched more than half), P(like), P(share) and P(not interested) of a video that is shown;
``relevance``, P(the viewer engages) of any video of the catalogue, learned from sampled videos too; and
``watch_s``, the expected seconds, as the mean over a softmax of watch-time bins.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models import metrics
from models.adam import AdamW
from models.rank_data import RankData, RankSchema
from models.rank_export import export
from models.rank_net import Moments, RankNet, Served, Shape
from models.rank_targets import CONSTANT, PROBABILITIES, Plan, Targets, platt
from models.scorer import META
from upnext.errors import CorruptData, DataError, EmptyData

HEADS = (*PROBABILITIES, "watch_s")
WEIGHTS = "ranker.pt"
WATCH_LOSS = 0.25  # weight of the bins' cross-entropy, a few nats, beside losses of half a nat

Progress = Callable[[int, float, float], None]


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained."""

    epochs: int = 12
    """At most; it stops earlier when the validation loss does not fall."""
    patience: int = 2
    """Epochs without a fall before it stops."""
    batch_size: int = 2_048
    """Rows."""
    learning_rate: float = 2e-3
    """At the start; it falls to 0 as a half cosine over all epochs."""
    weight_decay: float = 1e-4
    width: int = 96
    """Units of the shared bottom; an expert has half as many."""
    experts: int = 4
    rank: int = 24
    """Of the cross layers."""
    layers: int = 2
    """Cross layers."""
    bins: int = 32
    """Bins of watch time at most."""
    seed: int = 0
    threads: int = 1
    """More help only where the cores are idle: on shared ones they wait for each other."""


@dataclass(frozen=True)
class Ranker:
    """A trained ranker. scale, shift: float32[H], calibrated logit = logit · scale + shift."""

    net: RankNet
    schema: RankSchema
    config: RankerConfig
    plan: Plan
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    report: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the ONNX graph, its description and the weights; checks that ONNX answers as torch does."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.net.state_dict(), folder / WEIGHTS)
        meta = {
            "schema": self.schema.to_dict(),
            "schema_hash": self.schema.hash,
            "heads": HEADS,
            "shape": asdict(self.net.shape),
            "edges": self.plan.edges.tolist(),
            "config": asdict(self.config),
            "report": self.report,
        }
        (folder / META).write_text(json.dumps(meta, indent=1))
        export(Served(self.net, self.scale, self.shift, self.plan.means).eval(), self.schema, folder)


def fit(
    train: RankData,
    valid: RankData,
    schema: RankSchema,
    config: RankerConfig | None = None,
    warm_start: Path | None = None,
    progress: Progress | None = None,
) -> Ranker:
    """Train on some rows, stop and calibrate on others.

    Parameters
    ----------
    warm_start
        Folder of an earlier ranker; its weights and scales are taken where its inputs and sizes are the same.
    progress
        Told the epoch (from 1), the training loss and the validation loss (NaN without validation rows).

    Raises
    ------
    EmptyData without a training row; DataError for a label outside 0 to 1 or a loss that is not a number.
    """
    config = config or RankerConfig()
    if not len(train):
        raise EmptyData("no training example: the ranker needs some between history_end and valid_start")
    with _torch_state(config):
        inputs = train.inputs(schema)
        earlier = _earlier(warm_start, schema)
        plan = Plan.of(train, config.bins, np.asarray(earlier["edges"]) if earlier else None)
        net, warm = _network(inputs, plan, config, earlier, warm_start)
        history = _train(
            net,
            _Rows.of(net, inputs, train.position, plan.targets(train)),
            _Rows.of(net, valid.inputs(schema), valid.position, plan.targets(valid)),
            config,
            progress,
        )
        scale, shift, figures = _calibrate(net, plan, train, valid, schema)
    notes = [
        f"{head}: labels are all alike, so it answers {plan.base_rate[head]:.4g} for every video"
        for head in PROBABILITIES
        if plan.scope[head] == CONSTANT
    ]
    report = {"scope": plan.scope, "epochs": history, "warm_start": warm, "valid": figures, "notes": notes}
    return Ranker(net, schema, config, plan, scale, shift, report)


@dataclass(frozen=True)
class _Rows:
    """Training rows as tensors: normalised inputs float32[k, D], position int64[k], and their targets."""

    inputs: Tensor
    position: Tensor
    labels: Tensor
    weights: Tensor
    bins: Tensor

    @classmethod
    def of(
        cls, net: RankNet, inputs: NDArray[np.float32], position: NDArray[np.int32], targets: Targets
    ) -> "_Rows":
        with torch.no_grad():
            normalised = net.normalise(torch.from_numpy(inputs))
        columns = (position.astype(np.int64), targets.labels, targets.weights, targets.bins)
        return cls(normalised, *(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Tensor | slice) -> "_Rows":
        return _Rows(
            self.inputs[rows], self.position[rows], self.labels[rows], self.weights[rows], self.bins[rows]
        )


def _loss(net: RankNet, rows: _Rows) -> Tensor:
    """Sum over heads of the mean cross-entropy of their known labels."""
    logits, bins = net.predict(rows.inputs)
    placed = torch.tensor([head != "relevance" for head in PROBABILITIES])
    logits = logits + net.position_bias(rows.position) * placed
    losses = F.binary_cross_entropy_with_logits(logits, rows.labels, weight=rows.weights, reduction="none")
    loss = (losses.sum(dim=0) / rows.weights.sum(dim=0).clamp(min=1)).sum()
    if bool((rows.bins >= 0).any()):
        loss = loss + WATCH_LOSS * F.cross_entropy(bins, rows.bins, ignore_index=-1)
    return loss


def _train(
    net: RankNet, train: _Rows, valid: _Rows, config: RankerConfig, progress: Progress | None
) -> list[dict[str, float]]:
    """Train in place and leave the weights of the best epoch; losses by epoch."""
    optimiser = AdamW(net.parameters(), config.weight_decay)
    steps = config.epochs * -(-len(train) // config.batch_size)
    step = 0
    best, kept, history = np.inf, deepcopy(net.state_dict()), []
    worse = 0
    for epoch in range(1, config.epochs + 1):
        net.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(train)), config.batch_size):
            loss = _loss(net, train[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step(config.learning_rate * (1 + cos(pi * step / steps)) / 2)
            step += 1
            total += float(loss.detach()) * len(rows)
        train_loss, valid_loss = total / len(train), _evaluate(net, valid)
        if not np.isfinite(train_loss):
            raise DataError(
                f"the loss is {train_loss} in epoch {epoch}: lower learning_rate, {config.learning_rate}"
            )
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
    return history


def _evaluate(net: RankNet, rows: _Rows, batch: int = 16_384) -> float:
    net.eval()
    total = 0.0
    with torch.inference_mode():
        for at in range(0, len(rows), batch):
            part = rows[slice(at, at + batch)]
            total += float(_loss(net, part)) * len(part)
    return total / len(rows) if len(rows) else float("nan")


def _calibrate(
    net: RankNet, plan: Plan, train: RankData, valid: RankData, schema: RankSchema
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, dict[str, float]]]:
    """Scale and shift by head, and figures on the validation rows."""
    logits, seconds = _predict(net, plan, valid.inputs(schema))
    targets = plan.targets(valid)
    with torch.inference_mode():
        placed = net.position_bias(torch.from_numpy(train.position[train.shown].astype(np.int64)))
    typical = placed.numpy().mean(axis=0) if len(placed) else np.zeros(len(PROBABILITIES))
    scale, shift = np.ones(len(PROBABILITIES), np.float32), np.zeros(len(PROBABILITIES), np.float32)
    figures: dict[str, dict[str, float]] = {}
    for column, head in enumerate(PROBABILITIES):
        if plan.scope[head] == CONSTANT:
            scale[column] = 0
            rate = np.clip(plan.base_rate[head], 1e-6, 1 - 1e-6)
            shift[column] = np.log(rate / (1 - rate))
            continue
        bias = 0.0 if head == "relevance" else float(typical[column])
        rows = targets.weights[:, column] > 0
        label, logit = targets.labels[rows, column], logits[rows, column] + bias
        slope, offset = platt(logit, label) if len(label) else (1.0, 0.0)
        scale[column], shift[column] = slope, bias * slope + offset
        if len(label):
            figures[head] = _figures(label, 1 / (1 + np.exp(-(logit * slope + offset))))
    watched = targets.bins >= 0
    if watched.any():
        actual, expected = valid.labels["watch_s"][watched], seconds[watched]
        figures["watch_s"] = {
            "mae": metrics.mae(actual, expected),
            "xauc": metrics.xauc(actual, expected),
            "mean": float(np.mean(actual)),
            "predicted_mean": float(np.mean(expected)),
        }
    return scale, shift, figures


def _figures(label: NDArray[np.float32], probability: NDArray[np.float64]) -> dict[str, float]:
    return {
        "auc": metrics.auc(label, probability),
        "log_loss": metrics.log_loss(label, probability),
        "ece": metrics.ece(label, probability),
        "base_rate": float(label.mean()),
        "rows": float(len(label)),
    }


def _predict(
    net: RankNet, plan: Plan, inputs: NDArray[np.float32], batch: int = 16_384
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Uncalibrated logits float64[k, H] and expected seconds float64[k]."""
    logits = np.empty((len(inputs), len(PROBABILITIES)))
    seconds = np.empty(len(inputs))
    with torch.inference_mode():
        for at in range(0, len(inputs), batch):
            heads, bins = net(torch.from_numpy(inputs[at : at + batch]))
            logits[at : at + batch] = heads
            seconds[at : at + batch] = bins.softmax(dim=1) @ torch.from_numpy(plan.means)
    return logits, seconds


def _network(
    inputs: NDArray[np.float32],
    plan: Plan,
    config: RankerConfig,
    earlier: dict[str, Any] | None,
    folder: Path | None,
) -> tuple[RankNet, bool]:
    """A new network, or the earlier one where its sizes are the same; says which."""
    shape = Shape(
        heads=len(PROBABILITIES),
        bins=len(plan.means),
        width=config.width,
        experts=config.experts,
        rank=config.rank,
        layers=config.layers,
    )
    net = RankNet(shape, Moments.of(inputs))
    if not (folder and earlier and earlier["shape"] == asdict(shape)):
        return net, False
    state = torch.load(folder / WEIGHTS, weights_only=True)
    moments = Moments(*(state[f"normalise.{name}"].numpy() for name in ("log", "mean", "std", "missing")))
    net = RankNet(shape, moments)
    net.load_state_dict(state)
    return net, True


def _earlier(folder: Path | None, schema: RankSchema) -> dict[str, Any] | None:
    """Description of an earlier ranker, if it has the same inputs."""
    if folder is None or not (folder / META).is_file():
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
    except ValueError as error:
        raise CorruptData(f"{folder / META} can't be read: {error}; train without warm_start") from error
    return meta if meta.get("schema_hash") == schema.hash else None


@contextmanager
def _torch_state(config: RankerConfig) -> Iterator[None]:
    """Seeded, on so many threads; both as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
