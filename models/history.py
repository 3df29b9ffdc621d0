"""What a viewer did lately, in the one shape that training and serving share.

Training reads it off :class:`~models.dataset.Interactions`, serving off the watch-history store; the same
events give the same :class:`Histories` either way, because both go through :func:`strength`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from models.catalogue import Catalogue
from models.columns import floats, micros

CLICK_STRENGTH = 0.1
"""What a click without a watch counts, in watch fractions."""
SECOND = 1_000_000
"""Microseconds."""


@dataclass(frozen=True)
class Histories:
    """Recent engagement of B viewers, newest first, one entry per distinct video.

    rows: int32[B, L], catalogue rows, -1 pads at the end.
    strength: float32[B, L] in [-1, 3], what came of the video up to then; 0 pads.
    age_s: float32[B, L], seconds since the newest event about the video, at least 0; 0 pads.
    """

    rows: NDArray[np.int32]
    strength: NDArray[np.float32]
    age_s: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not self.rows.shape == self.strength.shape == self.age_s.shape or self.rows.ndim != 2:
            shapes = self.rows.shape, self.strength.shape, self.age_s.shape
            raise ValueError(f"rows, strength and age_s are {shapes}, not three times [B, L]")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | NDArray[Any]) -> "Histories":
        """Some of the viewers."""
        return Histories(self.rows[which], self.strength[which], self.age_s[which])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool[B, L], True where there is an entry."""
        return self.rows >= 0

    def newest(self, length: int) -> "Histories":
        """The same viewers with at most ``length`` entries each."""
        return Histories(self.rows[:, :length], self.strength[:, :length], self.age_s[:, :length])

    @classmethod
    def empty(cls, viewers: int, length: int) -> "Histories":
        """Viewers of whom nothing is known."""
        shape = (viewers, length)
        return cls(np.full(shape, -1, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))


def strength(
    watch_fraction: ArrayLike,
    clicked: ArrayLike,
    liked: ArrayLike,
    shared: ArrayLike,
    not_interested: ArrayLike,
) -> NDArray[np.float32]:
    """How much a viewer cared: ``max(watch_fraction, 0.1·clicked) + liked + shared``; -1 if not interested.

    All arguments broadcast; the watch fraction is clipped to [0, 1], so the result is in [-1, 3].
    """
    watched = np.clip(np.asarray(watch_fraction, np.float64), 0, 1)
    seen = np.maximum(watched, CLICK_STRENGTH * np.asarray(clicked, np.float64))
    value = seen + np.asarray(liked, np.float64) + np.asarray(shared, np.float64)
    return np.where(np.asarray(not_interested, np.bool_), -1.0, value).astype(np.float32)


def viewer_history(recent: pa.Table, catalogue: Catalogue, now: datetime, length: int) -> Histories:
    """One viewer's history (B = 1) from the watch-history store.

    Parameters
    ----------
    recent
        Columns video_id, event_type, watch_duration_ms and timestamp, in any order of rows. Searches and
        videos that the catalogue lacks are skipped.
    now
        Aware; what happened later has age 0.
    length
        Entries at most; the arrays have this width whatever there is.
    """
    rows = catalogue.rows(recent["video_id"].to_pylist())
    kind = np.asarray(recent["event_type"].to_pylist(), dtype=np.object_)
    about = (rows >= 0) & (kind != "impression") & (kind != "search")
    if not about.any():
        return Histories.empty(1, length)
    rows, kind = rows[about], kind[about]
    times = micros(recent["timestamp"])[about]
    played = floats(recent["watch_duration_ms"])[about]
    videos, code = np.unique(rows, return_inverse=True)
    last = np.full(len(videos), np.iinfo(np.int64).min)
    np.maximum.at(last, code, times)
    fraction = watch_fraction(played, catalogue.duration_s[rows] * 1000.0)

    def total(event_type: str, weight: ArrayLike = 1.0) -> NDArray[np.float64]:
        return np.bincount(code, np.where(kind == event_type, weight, 0.0), len(videos)).astype(np.float64)

    values = strength(
        total("watch", fraction),
        total("click") > 0,
        total("like") > 0,
        total("share") > 0,
        total("not_interested") > 0,
    )
    order = np.lexsort((-videos, -last))[:length]
    history = Histories.empty(1, length)
    filled = slice(0, len(order))
    history.rows[0, filled] = videos[order]
    history.strength[0, filled] = values[order]
    age = (round(now.timestamp() * SECOND) - last[order]) / SECOND
    history.age_s[0, filled] = np.maximum(age, 0)
    return history


def watch_fraction(watch_ms: ArrayLike, duration_ms: ArrayLike) -> NDArray[np.float64]:
    """Part of a watched video that was played, in [0, 1].

    Where time or length is unknown (nan) it is 1, except that no time at all is 0 of any length.
    """
    played = np.asarray(watch_ms, np.float64)
    length = np.asarray(duration_ms, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.clip(played / length, 0, 1)
    return np.where(played == 0, 0.0, np.where(np.isnan(part), 1.0, part))
