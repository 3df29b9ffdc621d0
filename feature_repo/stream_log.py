"""The values of :mod:`feature_repo.stream` as of any times of a log, many at once: what training reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.specs import STREAM_WINDOWS, USER_STREAM, ViewSpec
from feature_repo.stream import AMOUNTS, COUNTED, ENGAGED, KINDS, LONGEST, SITTING_US
from models.columns import micros
from upnext.times import MINUTE_US

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Timeline:
    """Rows of many entities, sorted by entity and time, found by entity and time.

    entity: int64[m] and ts: int64[m] (µs), in that order.
    """

    entity: Ints
    ts: Ints
    times: Ints
    """``ts`` sorted by itself."""
    key: Ints
    """Ascending; tells entity and the place of its time among all times."""

    @classmethod
    def of(cls, entity: Ints, ts: Ints) -> "Timeline":
        """From rows that are sorted by entity and time."""
        times = np.sort(ts)
        key = entity * (len(ts) + 1) + np.searchsorted(times, ts)
        return cls(entity, ts, times, key)

    def before(self, entity: Ints, ts: Ints) -> Ints:
        """int64[k], how many rows lie before each entity's first one at or after a time."""
        return np.searchsorted(self.key, entity * (len(self.ts) + 1) + np.searchsorted(self.times, ts))


@dataclass(frozen=True)
class StreamLog:
    """Events of a view's entities with running sums.

    sums: int64[m + 1, a], amounts of AMOUNTS over all rows before; sittings: engagements and their depth.
    """

    view: ViewSpec
    events: Timeline
    sums: Ints
    sittings: Timeline
    depth: Ints

    @classmethod
    def of(cls, view: ViewSpec, events: pa.Table, entity: NDArray[np.integer]) -> "StreamLog":
        """From columns event_type, timestamp and watch_duration_ms; ``entity`` int[m], negative: left out."""
        kind = events["event_type"].combine_chunks().dictionary_encode()
        code = np.asarray(kind.indices.to_numpy(zero_copy_only=False), np.int64)
        names: list[str] = kind.dictionary.to_pylist()
        ts = micros(events["timestamp"])
        order = np.lexsort((ts, entity))
        order = order[entity[order] >= 0]
        who, ts, code = np.asarray(entity, np.int64)[order], ts[order], code[order]
        played = np.asarray(pc.fill_null(events["watch_duration_ms"], 0).to_numpy(), np.int64)[order]
        adds = np.array([[KINDS.get(name) == amount for amount in AMOUNTS] for name in names], np.int64)
        amounts = adds.reshape(-1, len(AMOUNTS))[code]
        watched = AMOUNTS.index("watch_s")
        amounts[:, watched] = played * amounts[:, AMOUNTS.index("watches")]
        sums = np.concatenate([np.zeros((1, len(AMOUNTS)), np.int64), np.cumsum(amounts, axis=0)])
        engaged = np.isin(code, [place for place, name in enumerate(names) if name in ENGAGED])
        sittings = Timeline.of(who[engaged], ts[engaged])
        return cls(view, Timeline.of(who, ts), sums, sittings, _depths(sittings))

    def features(self, entity: NDArray[np.integer], ts: Ints) -> NDArray[np.float32]:
        """The view's features of k entities, each strictly before a time of its own (µs): float32[k, d]."""
        who = np.asarray(entity, np.int64)
        until = self.sums[self.events.before(who, ts)]
        places = [AMOUNTS.index(name) for name in COUNTED[self.view.name]]
        columns = []
        for minutes in STREAM_WINDOWS.values():
            since = (ts // MINUTE_US - minutes + 1) * MINUTE_US
            total = until - self.sums[self.events.before(who, since)]
            columns += [total[:, at] / (1000 if AMOUNTS[at] == "watch_s" else 1) for at in places]
        if self.view is USER_STREAM:
            columns += self._sitting(who, ts)
        return np.log1p(np.stack(columns, axis=1)).astype(np.float32)

    def _sitting(self, who: Ints, ts: Ints) -> Sequence[NDArray[np.float64]]:
        """Depth of the sitting, and the minutes since its last engagement."""
        newest = self.sittings.before(who, ts) - 1
        if not len(self.depth):
            return [np.zeros(len(ts)), np.full(len(ts), float(LONGEST))]
        known = (newest >= 0) & (self.sittings.entity[newest] == who)
        idle = np.where(known, ts - self.sittings.ts[newest], LONGEST * MINUTE_US)
        depth = np.where(known & (idle < SITTING_US), self.depth[newest], 0)
        return [depth.astype(np.float64), np.minimum(idle / MINUTE_US, LONGEST)]


def _depths(rows: Timeline) -> Ints:
    """int64[m], how many engagements of its sitting there were up to each row."""
    place = np.arange(len(rows.ts))
    fresh = np.ones(len(rows.ts), np.bool_)
    fresh[1:] = (np.diff(rows.entity) != 0) | (np.diff(rows.ts) >= SITTING_US)
    start = np.maximum.accumulate(np.where(fresh, place, 0)) if len(place) else place
    return np.asarray(place - start + 1, np.int64)
