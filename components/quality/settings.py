"""Thresholds of the steps ``validate`` and ``drift``; a step's overrides are in ``UPNEXT_TRAINING``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ValidateConfig:
    """What is still fit to learn from."""

    most_refused: float = 0.1
    """Share of the events that may be in quarantine, of those that were read and of those in the lake."""
    most_missing: float = 0.5
    """Share of a feature's values that may be missing."""
    most_shift: float = 0.25
    """PSI of a feature against a week before, above which it is reported."""
    stale_h: float = 24.0
    """Hours that the newest event, or snapshot, may be older than the interval's end; else reported."""
    usual_volume: tuple[float, float] = (0.5, 2.0)
    """Ratio of a day's events to those of the same weekday a week before; outside of it, it is reported."""


@dataclass(frozen=True)
class DriftConfig:
    """How two windows are compared."""

    rows: int = 5_000
    """Rows of a window at most."""
    most: float = 0.1
    """Distance in standard deviations (Wasserstein, normed), from which on a column has drifted."""
    shown: int = 8
    """Features, those that drifted most, that the report draws beside the predictions."""
    seed: int = 0
