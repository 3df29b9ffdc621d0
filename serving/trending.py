"""What is watched right now, by region: the release's decayed counts plus what came in since."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.history import CLICK_STRENGTH, watch_fraction
from models.popularity import Popularity
from serving.exposure import KEPT_HOURS
from upnext.times import HOUR_US

EVERYWHERE = ""
WEIGHTS: Mapping[str, float] = {"click": CLICK_STRENGTH, "like": 1.0, "share": 1.0}
"""What an event counts at age 0; a watch counts its watch fraction."""

Counts = dict[int, dict[str, dict[str, float]]]
Top = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Rows, best first, and their scores."""


@dataclass
class LiveCounts:
    """Engagement of the last week: hour since 1970 -> region ("" for everywhere) -> video_id -> weight.

    Kept by the hour, so that a new release takes over where its own counts end. Safe between threads.
    """

    counts: Counts = field(default_factory=dict)
    regions: set[str] = field(default_factory=set)
    version: int = 0
    """Grows with every change."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, events: pa.Table, catalogue: Catalogue) -> None:
        """Count events (columns of EVENTS) by their timestamps."""
        kind = np.asarray(events["event_type"].to_numpy())
        rows = catalogue.rows(events["video_id"].to_pylist())  # few: no index of all ids for each batch
        played = pc.cast(events["watch_duration_ms"], pa.float64()).to_numpy()
        duration_ms = np.where(rows >= 0, catalogue.duration_s[rows], np.nan) * 1000.0
        weight = np.select(
            [kind == "watch", *(kind == name for name in WEIGHTS)],
            [watch_fraction(played, duration_ms), *WEIGHTS.values()],
            0.0,
        )
        counted = np.flatnonzero((weight > 0) & (rows >= 0))
        if not len(counted):  # impressions only, of which there are most
            return
        hours = pc.cast(events["timestamp"], pa.int64()).to_numpy() // HOUR_US
        videos, regions = events["video_id"].to_pylist(), events["region"].to_pylist()
        with self._lock:
            for at in counted:
                here = {EVERYWHERE, regions[at] or EVERYWHERE}
                self.regions |= here
                for region in here:
                    tally = self.counts.setdefault(int(hours[at]), {}).setdefault(region, {})
                    tally[videos[at]] = tally.get(videos[at], 0.0) + float(weight[at])
            for old in [hour for hour in self.counts if hour < max(self.counts) - KEPT_HOURS]:
                del self.counts[old]
            self.version += 1

    def since(self, as_of: int, half_life_h: float, region: str) -> dict[str, float]:
        """Per video what came in from the hour of ``as_of`` (µs) on, a count at ``as_of`` weighing 1.

        The weight is 2^((t - as_of) / half-life), which needs no decay afterwards: all scores of a release,
        the popularity's too, shrink alike.
        """
        start = as_of / HOUR_US
        total: dict[str, float] = {}
        with self._lock:
            for hour, by_region in self.counts.items():
                if hour >= int(start):
                    scale = 2.0 ** ((hour - start) / half_life_h)
                    for video_id, weight in by_region.get(region, {}).items():
                        total[video_id] = total.get(video_id, 0.0) + scale * weight
        return total

    def state(self) -> dict[str, object]:
        """A copy that JSON can hold."""
        with self._lock:
            return {
                str(hour): {region: dict(videos) for region, videos in by_region.items()}
                for hour, by_region in self.counts.items()
            }

    def restore(self, state: Mapping[str, dict[str, dict[str, float]]]) -> None:
        """Take over the counts that :meth:`state` gave."""
        with self._lock:
            self.counts = {int(hour): by_region for hour, by_region in state.items()}
            self.regions = {region for by_region in self.counts.values() for region in by_region}
            self.version += 1


@dataclass
class Trending:
    """The most watched videos by region, recomputed at most once a second and only after new events."""

    catalogue: Catalogue
    popularity: Popularity
    live: LiveCounts
    depth: int = 2_000
    refresh_s: float = 1.0
    clock: Callable[[], float] = monotonic
    tops: dict[str, tuple[NDArray[np.int32], NDArray[np.float32], int, float]] = field(
        default_factory=dict, repr=False
    )
    _of_release: dict[str, Top] = field(default_factory=dict, repr=False)

    def top(self, region: str | None) -> Top:
        """Rows int32[≤ depth], best first, and scores float32; of everywhere where the region is unknown."""
        key = region if region and self.knows(region) else EVERYWHERE
        version, now = self.live.version, self.clock()
        held = self.tops.get(key)
        if held is None or (held[2] != version and now - held[3] >= self.refresh_s):
            held = self.tops[key] = (*self._compute(key), version, now)
        return held[0], held[1]

    def knows(self, region: str) -> bool:
        return region in self.popularity.regions or region in self.live.regions

    def prime(self) -> None:
        """Have the lists of all regions at hand before the first request asks."""
        for region in (None, *self.popularity.regions):
            self.top(region)

    def _compute(self, key: str) -> Top:
        """The best of what the release counted and of what came in since: as engagement only adds, no other
        video can be among them."""
        rows, scores = self._release_top(key)
        live = self.live.since(self.popularity.as_of, self.popularity.half_life_h, key)
        if not live:
            return rows, scores
        moved = self.catalogue.rows(list(live))
        may = (moved >= 0) & self.catalogue.active[moved]
        moved, added = moved[may], np.fromiter(live.values(), np.float32, len(live))[may]
        counted = self._counted(key)
        known = moved < len(counted)
        added[known] += counted[moved[known]]
        still = ~np.isin(rows, moved)
        return _best(np.concatenate([rows[still], moved]), np.concatenate([scores[still], added]), self.depth)

    def _release_top(self, key: str) -> Top:
        if key not in self._of_release:
            counted = self._counted(key)
            scores = np.where(self.catalogue.active[: len(counted)], counted, 0)
            k = min(self.depth, len(scores))
            near = np.argpartition(-scores, k - 1)[:k] if k else np.empty(0, np.int64)
            self._of_release[key] = _best(near, scores[near], self.depth)
        return self._of_release[key]

    def _counted(self, key: str) -> NDArray[np.float32]:
        """float32[n], what the release counted of its videos; nothing for a region that it does not know."""
        known = key == EVERYWHERE or key in self.popularity.regions
        return self.popularity.scores(key or None) if known else np.empty(0, np.float32)


def _best(rows: NDArray[np.integer], scores: NDArray[np.float32], depth: int) -> Top:
    """Those above 0, best first, equal ones by row."""
    best = np.lexsort((rows, -scores))[:depth]
    best = best[scores[best] > 0]
    return rows[best].astype(np.int32), scores[best]
