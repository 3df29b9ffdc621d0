"""Features of the moment: when, where and after what a slate is asked for. Training and serving share them.

The surfaces and devices that a model knows are part of its context layout's names (``surface=home``), so that
the layout that travels with a release is all that serving needs; others encode as zeros.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.history import Histories
from models.layout import FeatureLayout

DAY_US = 86_400_000_000
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday, and Monday is 0."""
NEVER_MIN = 90 * 24 * 60
"""Minutes since the last watch where the history knows of none."""
TIMES = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "weekend")
HISTORY = ("history_length", "minutes_since_watch")
CONTEXT_HISTORY = 50
"""Newest entries of a history that the context looks at."""
MAX_VALUES = 16
"""Surfaces and devices told apart at most."""


def context_layout(surfaces: Sequence[str], devices: Sequence[str]) -> FeatureLayout:
    """The context features of a model that knows these surfaces and devices (the first 16 of each)."""
    known = [f"surface={name}" for name in surfaces[:MAX_VALUES]]
    known += [f"device={name}" for name in devices[:MAX_VALUES]]
    return FeatureLayout.of([*TIMES, *HISTORY, *known])


def context_features(
    layout: FeatureLayout,
    ts: NDArray[np.int64],
    surface: Sequence[str | None] | NDArray[np.object_],
    device: Sequence[str | None] | NDArray[np.object_],
    histories: Histories,
) -> NDArray[np.float32]:
    """Context of B requests, float32[B, dc], columns as in ``layout``.

    Parameters
    ----------
    ts
        int64[B], µs since the epoch, UTC.
    surface, device
        Where each request comes from; None unknown.
    histories
        What each viewer had done strictly before ``ts``, at least ``CONTEXT_HISTORY`` entries wide.
    """
    hour = ts % DAY_US / DAY_US * 2 * np.pi
    weekday = (ts // DAY_US + EPOCH_WEEKDAY) % 7
    turn = weekday / 7 * 2 * np.pi
    histories = histories.newest(CONTEXT_HISTORY)
    held = histories.mask
    minutes = np.where(held.any(axis=1), histories.age_s[:, 0] / 60, NEVER_MIN)
    columns = {
        "hour_sin": np.sin(hour),
        "hour_cos": np.cos(hour),
        "weekday_sin": np.sin(turn),
        "weekday_cos": np.cos(turn),
        "weekend": weekday >= 5,
        "history_length": np.log1p(held.sum(axis=1)),
        "minutes_since_watch": np.log1p(minutes),
    }
    values = {"surface": np.asarray(surface, object), "device": np.asarray(device, object)}
    out = np.zeros((len(ts), layout.width), np.float32)
    for place, name in enumerate(layout.names):
        kind, _, value = name.partition("=")
        out[:, place] = values[kind] == value if value else columns[name]
    return out
