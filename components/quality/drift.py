"""Drift of features and predictions between two windows, by Evidently: a distance per column, and a report.

The distance of a column is the Wasserstein distance of its two windows in standard deviations of the
earlier one, Evidently's own test for numbers; at most 1,000 per unit, which a constant gets that changes.
All columns get one; the report draws those that moved most, since drawing is what takes long.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.quality.settings import DriftConfig


@dataclass(frozen=True)
class Window:
    """What was shown in one span of time: features[n, d] and the heads' predictions[n, h], one row each."""

    features: pd.DataFrame
    predictions: pd.DataFrame

    def save(self, file: Path) -> None:
        """Write a Parquet file; the columns of predictions are marked by their prefix."""
        self._joined().to_parquet(file, index=False)

    @classmethod
    def load(cls, file: Path) -> "Window":
        both = pd.read_parquet(file)
        heads = [name for name in both.columns if name.startswith(_HEAD)]
        return cls(
            both.drop(columns=heads), both[heads].rename(columns=lambda name: name.removeprefix(_HEAD))
        )

    def _joined(self) -> pd.DataFrame:
        return pd.concat([self.features, self.predictions.add_prefix(_HEAD)], axis=1)


@dataclass(frozen=True)
class Drift:
    """Distances by column, float in standard deviations; the features' largest first."""

    features: dict[str, float]
    predictions: dict[str, float]
    most: float
    """The distance from which on a column has drifted."""

    @property
    def share(self) -> float:
        """Share of the features that drifted."""
        drifted = [distance >= self.most for distance in self.features.values()]
        return float(np.mean(drifted)) if drifted else 0.0

    def metrics(self, top: int) -> dict[str, float]:
        """Figures for a step: the share, each head's distance, and those of the features that moved most."""
        return {
            "drifted_share": self.share,
            **{f"prediction.{head}": distance for head, distance in self.predictions.items()},
            **{f"feature.{name}": distance for name, distance in list(self.features.items())[:top]},
        }


def compare(before: Window, now: Window, config: DriftConfig) -> Drift:
    """Distances of the columns that both windows have."""
    features = _distances(before.features, now.features, config.most)
    ordered = dict(sorted(features.items(), key=lambda item: (-item[1], item[0])))
    return Drift(ordered, _distances(before.predictions, now.predictions, config.most), config.most)


def write_report(before: Window, now: Window, drift: Drift, config: DriftConfig, file: Path) -> None:
    """Evidently's page on the predictions and on the features that moved most; it needs no network."""
    heads = [f"{_HEAD}{head}" for head in drift.predictions]
    columns = [*heads, *list(drift.features)[: config.shown]]
    if columns:
        _draw(before._joined()[columns], now._joined()[columns], columns, config.most, file)


def _distances(before: pd.DataFrame, now: pd.DataFrame, most: float) -> dict[str, float]:
    os.environ.setdefault("DO_NOT_TRACK", "1")  # no usage statistics
    from evidently.legacy.calculations.stattests import wasserstein_stat_test
    from evidently.legacy.core import ColumnType

    found = {}
    for name in before.columns.intersection(now.columns):
        one, two = (frame[name][np.isfinite(frame[name])] for frame in (before, now))
        if len(one) and len(two):
            result = wasserstein_stat_test(one, two, ColumnType.Numerical, most)
            found[str(name)] = float(result.drift_score)
    return found


def _draw(before: pd.DataFrame, now: pd.DataFrame, columns: Sequence[str], most: float, file: Path) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=list(columns), categorical_columns=[])
    report = Report([ValueDrift(column=name, method="wasserstein", threshold=most) for name in columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about columns that never change
        drawn = report.run(Dataset.from_pandas(now, definition), Dataset.from_pandas(before, definition))
        drawn.save_html(str(file))


_HEAD = "prediction: "
"""Marks a column of predictions where both kinds stand side by side."""
