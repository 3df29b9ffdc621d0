"""How the ranker's logits become calibrated probabilities, and how good they are on the validation rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import metrics
from models.rank_targets import CONSTANT, PROBABILITIES, Plan, Targets, platt

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Calibration:
    """A calibrated logit is logit · scale + shift, float32[H] each; seconds: float32[bins], their means."""

    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    seconds: NDArray[np.float32]

    @classmethod
    def of(
        cls, plan: Plan, logits: NDArray[np.floating], targets: Targets, bias: NDArray[np.floating]
    ) -> "Calibration":
        """Fitted (Platt) to validation rows.

        Parameters
        ----------
        logits
            float[k, H] of rows without a position.
        bias
            float[H], what the places of the rows shown add to a logit on average: it stays in the answers, so
            that they are of a video shown where videos are shown.
        """
        scale, shift = np.ones(len(PROBABILITIES), np.float32), np.zeros(len(PROBABILITIES), np.float32)
        for column, head in enumerate(PROBABILITIES):
            if plan.scope[head] == CONSTANT:
                rate = np.clip(plan.base_rate[head], 1e-6, 1 - 1e-6)
                scale[column], shift[column] = 0, np.log(rate / (1 - rate))
                continue
            added = 0.0 if head == "relevance" else float(bias[column])
            rows = targets.weights[:, column] > 0
            slope, offset = 1.0, 0.0
            if rows.any():
                slope, offset = platt(logits[rows, column] + added, targets.labels[rows, column])
            scale[column], shift[column] = slope, added * slope + offset
        return cls(scale, shift, plan.means)

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """float64[k, H]"""
        return np.asarray(1 / (1 + np.exp(-(np.asarray(logits, np.float64) * self.scale + self.shift))))


def figures(
    plan: Plan,
    targets: Targets,
    watched_s: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    seconds: NDArray[np.floating],
) -> Figures:
    """By head, for k rows: AUC, log loss, calibration error; for ``watch_s`` the error and order of seconds.

    watched_s, seconds: float[k], actual and expected; probabilities: float[k, H].
    """
    out: Figures = {}
    for column, head in enumerate(PROBABILITIES):
        rows = targets.weights[:, column] > 0
        if plan.scope[head] != CONSTANT and rows.any():
            label, chance = targets.labels[rows, column], probabilities[rows, column]
            out[head] = {
                "auc": metrics.auc(label, chance),
                "log_loss": metrics.log_loss(label, chance),
                "ece": metrics.ece(label, chance),
                "base_rate": float(label.mean()),
                "rows": float(len(label)),
            }
    rows = targets.bins >= 0
    if rows.any():
        actual, expected = watched_s[rows], seconds[rows]
        out["watch_s"] = {
            "mae": metrics.mae(actual, expected),
            "xauc": metrics.xauc(actual, expected),
            "mean": float(np.mean(actual)),
            "predicted_mean": float(np.mean(expected)),
        }
    return out
