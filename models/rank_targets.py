"""What each head of the ranker learns from, and how its logit becomes a calibrated probability."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.rank_data import RankData
from upnext.errors import DataError

PROBABILITIES = ("click", "long_view", "like", "share", "not_interested", "relevance")
SHOWN, ALL, CONSTANT = "shown", "all", "constant"


@dataclass(frozen=True)
class Targets:
    """labels, weights: float32[k, H], a weight of 0 where a label is unknown; bins: int64[k], -1 unknown."""

    labels: NDArray[np.float32]
    weights: NDArray[np.float32]
    bins: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Decided on the training rows, then the same for validation.

    scope: by head, the rows that it learns from: ``shown``; ``all``, the sampled ones too; or ``constant``,
    when its labels are all alike and it will answer ``base_rate``.
    edges: float64[bins - 1], ascending bounds of the watch-time bins, seconds; means: float32[bins].
    """

    scope: dict[str, str]
    base_rate: dict[str, float]
    edges: NDArray[np.float64]
    means: NDArray[np.float32]

    @classmethod
    def of(cls, data: RankData, bins: int, edges: NDArray[np.float64] | None = None) -> Self:
        """``edges`` of an earlier plan are kept, so that weights trained on its bins still mean the same."""
        scope, base_rate = {}, {}
        for head in PROBABILITIES:
            label = labels_of(data, head)
            if ((label < 0) | (label > 1)).any():
                wrong = label[(label < 0) | (label > 1)][0]
                raise DataError(f"label {head} is {wrong}: give 0 to 1, or NaN where it is unknown")
            scope[head] = _scope(head, label, data.shown)
            known = label[_rows(scope[head], label, data.shown)]
            base_rate[head] = float(known.mean()) if len(known) else 0.0
        watched = data.labels["watch_s"][_watch_rows(data)].astype(np.float64)
        if edges is None:
            edges = _edges(watched, bins)
        place = np.searchsorted(edges, watched)
        count = np.bincount(place, minlength=len(edges) + 1)
        total = np.bincount(place, watched, len(edges) + 1)
        middle = np.concatenate([edges[:1], edges]) if len(edges) else np.zeros(1)
        return cls(
            scope, base_rate, edges, np.where(count, total / np.maximum(count, 1), middle).astype("f4")
        )

    def targets(self, data: RankData) -> Targets:
        """Labels and weights of some rows under this plan."""
        labels = np.stack([labels_of(data, head) for head in PROBABILITIES], axis=1)
        weights = np.zeros(labels.shape, np.float32)
        for column, head in enumerate(PROBABILITIES):
            if self.scope[head] != CONSTANT:
                weights[_rows(self.scope[head], labels[:, column], data.shown), column] = 1
        bins = np.full(len(data), -1, np.int64)
        rows = _watch_rows(data)
        bins[rows] = np.searchsorted(self.edges, data.labels["watch_s"][rows])
        return Targets(np.nan_to_num(labels), weights, bins)


def _edges(watched: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Quantiles, each once: what is often watched for exactly as long (0 s) gets one bin."""
    if not len(watched):
        return np.empty(0)
    return np.unique(np.quantile(watched, np.linspace(0, 1, bins + 1)[1:-1]))


def labels_of(data: RankData, head: str) -> NDArray[np.float32]:
    """float32[k] of a head that is a probability, NaN unknown."""
    return data.relevant() if head == "relevance" else np.asarray(data.labels[head], np.float32)


def platt(
    logit: NDArray[np.floating], label: NDArray[np.floating], prior: float = 1.0
) -> tuple[float, float]:
    """Scale and shift of a logit that fit labels best (Platt 1999); held to (1, 0) as by ``prior`` rows."""
    logit, label = np.asarray(logit, np.float64), np.asarray(label, np.float64)
    design = np.stack([logit, np.ones_like(logit)], axis=1)
    start = np.array([1.0, 0.0])
    theta = start.copy()
    for _ in range(20):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -30, 30)))
        slope = design.T @ (p - label) + prior * (theta - start)
        curve = (design * (p * (1 - p))[:, None]).T @ design + prior * np.eye(2)
        step = np.linalg.solve(curve, slope)
        theta -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return float(max(theta[0], 0.05)), float(theta[1])


def _scope(head: str, label: NDArray[np.float32], shown: NDArray[np.bool_]) -> str:
    wanted = (ALL,) if head == "relevance" else (SHOWN, ALL)
    for scope in wanted:
        known = label[_rows(scope, label, shown)]
        if len(known) and known.min() < known.max():
            return scope
    return CONSTANT


def _rows(scope: str, label: NDArray[np.float32], shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    known = ~np.isnan(label)
    return known & shown if scope == SHOWN else known


def _watch_rows(data: RankData) -> NDArray[np.bool_]:
    """Rows with a known watch time: shown ones, or any where nothing was shown."""
    known = ~np.isnan(data.labels["watch_s"])
    return known & data.shown if (known & data.shown).any() else known
