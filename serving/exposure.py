"""Impressions and what came of them since a release was made, so that exploration can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from weakref import ref

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.exposure import LONG, Exposure
from models.history import watch_fraction
from upnext.times import HOUR_US

KEPT_HOURS = 24 * 7


@dataclass(frozen=True)
class Seen:
    """What some events say: rows int32[k] of impressions or long views, and which of the two, bool[k]."""

    hours: NDArray[np.int64]
    rows: NDArray[np.int32]
    well: NDArray[np.bool_]

    @classmethod
    def of(cls, events: pa.Table, catalogue: Catalogue) -> "Seen":
        """From columns of EVENTS; videos that the catalogue lacks are left out."""
        kind = np.asarray(events["event_type"].to_numpy())
        rows = catalogue.rows(events["video_id"].to_pylist())
        played = pc.cast(events["watch_duration_ms"], pa.float64()).to_numpy()
        long = watch_fraction(played, catalogue.duration_s[rows] * 1000.0) > LONG
        well = (kind == "watch") & long
        kept = (rows >= 0) & (well | (kind == "impression"))
        hours = pc.cast(events["timestamp"], pa.int64()).to_numpy() // HOUR_US
        return cls(hours[kept], rows[kept], well[kept])


Hours = dict[int, dict[str, list[int]]]
"""Hour since 1970 -> video_id -> [impressions, long views]."""


@dataclass(frozen=True)
class _Followed:
    """An exposure that is kept up to date, and what it started from."""

    exposure: ref[Exposure]
    base: Exposure
    catalogue: Catalogue
    first: int
    """Hour from which on the base knows nothing."""

    def count(self, hours: Hours) -> None:
        exposure = self.exposure()
        if exposure is None:
            return
        for videos in (videos for hour, videos in hours.items() if hour >= self.first):
            rows = self.catalogue.rows(list(videos))
            counts = np.asarray(list(videos.values()), np.int32).reshape(-1, 2)[rows >= 0]
            np.add.at(exposure.impressions, rows[rows >= 0], counts[:, 0])
            np.add.at(exposure.successes, rows[rows >= 0], counts[:, 1])

    def start_again(self) -> None:
        exposure = self.exposure()
        if exposure is not None:
            exposure.impressions[:], exposure.successes[:] = self.base.impressions, self.base.successes


@dataclass
class LiveExposure:
    """Impressions and long views of the last week, upon the exposures of the releases in use.

    By the hour, so that a new release takes over where its own counts end. Safe between threads.
    """

    hours: Hours = field(default_factory=dict)
    _followed: list[_Followed] = field(default_factory=list, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, seen: Seen, catalogue: Catalogue) -> None:
        keys, counts = np.unique(np.stack([seen.hours, seen.rows, seen.well]), axis=1, return_counts=True)
        fresh: Hours = {}
        names = catalogue.named(keys[1]).tolist()
        for hour, name, well, count in zip(
            keys[0].tolist(), names, keys[2].tolist(), counts.tolist(), strict=True
        ):
            fresh.setdefault(hour, {}).setdefault(name, [0, 0])[well] += count
        with self._lock:
            for hour, videos in fresh.items():
                held = self.hours.setdefault(hour, {})
                for video_id, (shown, well) in videos.items():
                    tally = held.setdefault(video_id, [0, 0])
                    tally[0], tally[1] = tally[0] + shown, tally[1] + well
            for old in [hour for hour in self.hours if hour < max(self.hours) - KEPT_HOURS]:
                del self.hours[old]
            for each in self._followed:
                each.count(fresh)

    def follow(self, base: Exposure, catalogue: Catalogue, as_of: int) -> Exposure:
        """A copy of a release's exposure, with what came in from the hour of ``as_of`` (µs) on.

        It is kept up to date, in place, for as long as somebody holds it.
        """
        made = Exposure(base.impressions.copy(), base.successes.copy())
        followed = _Followed(ref(made), base, catalogue, as_of // HOUR_US)
        with self._lock:
            followed.count(self.hours)
            self._followed = [each for each in self._followed if each.exposure() is not None] + [followed]
        return made

    def state(self) -> dict[str, object]:
        """A copy that JSON can hold."""
        with self._lock:
            return {
                str(hour): {name: list(pair) for name, pair in of.items()} for hour, of in self.hours.items()
            }

    def restore(self, state: Mapping[str, dict[str, list[int]]]) -> None:
        """Take over the counts that :meth:`state` gave."""
        with self._lock:
            self.hours = {int(hour): videos for hour, videos in state.items()}
            for each in self._followed:
                each.start_again()
                each.count(self.hours)
