"""Features of the moment: when, where and after what a slate is asked for. Training and serving share them.

The surfaces and devices that a model knows are part of its context layout's names (``surface=home``), so that
the layout that travels with a release is all that serving needs; others encode as zeros.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.stream import SITTING_US
from models.history import Histories
from models.layout import FeatureLayout
from models.specs import FLAG, LOG_COUNT, LOG_MINUTES, FeatureSpec, names_of
from upnext.times import DAY_US, EPOCH_WEEKDAY

NEVER_MIN = 90 * 24 * 60
"""Minutes since the last watch where the history knows of none."""
QUERY_FRESH_S = 1_800.0
"""Seconds for which a search tells what a viewer is after."""
CONTEXT_SPECS = (
    FeatureSpec("hour_sin", "sine", "hour of the day (UTC) on a circle"),
    FeatureSpec("hour_cos", "cosine", "hour of the day (UTC) on a circle"),
    FeatureSpec("weekday_sin", "sine", "day of the week (UTC) on a circle"),
    FeatureSpec("weekday_cos", "cosine", "day of the week (UTC) on a circle"),
    FeatureSpec("weekend", FLAG, "Saturday or Sunday (UTC)"),
    FeatureSpec("history_length", LOG_COUNT, "videos in the recent history, at most 50"),
    FeatureSpec("minutes_since_watch", LOG_MINUTES, "since the newest of them; 90 d where there is none"),
    FeatureSpec("session_depth", LOG_COUNT, "videos of this sitting, which 30 min of nothing end"),
    FeatureSpec("has_query", FLAG, "searched within 30 min"),
    FeatureSpec("query_age", LOG_MINUTES, "since that search; 30 where there is none"),
)
"""Those that every context has; ``surface=…`` and ``device=…`` (0 or 1) come from the data."""
CONTEXT_HISTORY = 50
"""Newest entries of a history that the context looks at."""
MAX_VALUES = 16
"""Surfaces and devices told apart at most."""


def context_layout(surfaces: Sequence[str], devices: Sequence[str]) -> FeatureLayout:
    """The context features of a model that knows these surfaces and devices (the first 16 of each)."""
    known = [f"surface={name}" for name in surfaces[:MAX_VALUES]]
    known += [f"device={name}" for name in devices[:MAX_VALUES]]
    return FeatureLayout.of([*names_of(CONTEXT_SPECS), *known])


def context_features(
    layout: FeatureLayout,
    ts: NDArray[np.int64],
    surface: Sequence[str | None] | NDArray[np.object_],
    device: Sequence[str | None] | NDArray[np.object_],
    histories: Histories,
    query_age_s: NDArray[np.floating] | None = None,
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
    query_age_s
        Seconds since each viewer's last search, float[B]; nan, or None for all, where there is none.
    """
    hour = ts % DAY_US / DAY_US * 2 * np.pi
    weekday = (ts // DAY_US + EPOCH_WEEKDAY) % 7
    turn = weekday / 7 * 2 * np.pi
    histories = histories.newest(CONTEXT_HISTORY)
    held = histories.mask
    minutes = np.where(held.any(axis=1), histories.age_s[:, 0] / 60, NEVER_MIN)
    query_age = np.full(len(ts), np.nan) if query_age_s is None else np.asarray(query_age_s, np.float64)
    asked = query_age <= QUERY_FRESH_S
    columns = {
        "hour_sin": np.sin(hour),
        "hour_cos": np.cos(hour),
        "weekday_sin": np.sin(turn),
        "weekday_cos": np.cos(turn),
        "weekend": weekday >= 5,
        "history_length": np.log1p(held.sum(axis=1)),
        "minutes_since_watch": np.log1p(minutes),
        "session_depth": np.log1p(_sitting(held, histories.age_s)),
        "has_query": asked,
        "query_age": np.log1p(np.where(asked, query_age, QUERY_FRESH_S) / 60),
    }
    values = {"surface": np.asarray(surface, object), "device": np.asarray(device, object)}
    out = np.zeros((len(ts), layout.width), np.float32)
    for place, name in enumerate(layout.names):
        kind, _, value = name.partition("=")
        out[:, place] = values[kind] == value if value else columns[name]
    return out


def _sitting(held: NDArray[np.bool_], age_s: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64[B], entries that follow one another, from now back, without a pause that ends a sitting."""
    pause = np.diff(age_s, axis=1, prepend=np.float32(0))
    going = held & (pause < SITTING_US / 1e6)
    return np.asarray(np.logical_and.accumulate(going, axis=1).sum(axis=1), np.int64)
