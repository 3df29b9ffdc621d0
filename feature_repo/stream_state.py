"""The states of :mod:`feature_repo.stream` for serving: only of what is active, in arrays with running sums.

An entity that something happened to within the hour has a slot; slot 0 stands for all others and stays zero.
A minute's events wait in a bucket until they leave a window, and are then taken off its sums, so that a read
is nothing but a gather. Memory goes with the events of an hour, not with the catalogue.
"""

from collections import defaultdict
from collections.abc import Sequence
from threading import Lock
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from feature_repo.specs import STREAM_WINDOWS, USER_STREAM, ViewSpec
from feature_repo.stream import (
    AMOUNTS,
    COUNTED,
    ENGAGED,
    LONGEST,
    SITTING_US,
    StreamEvent,
    amounts_of,
)
from models.catalogue import Catalogue
from upnext.times import MINUTE_US

Rows = NDArray[np.int32]
Changes = tuple[list[str], NDArray[np.float32], list[str]]
"""Ids whose values changed, their values float32[n, d], and ids of whom nothing is left."""
NOBODY = "\0"
"""Begins no entity's id."""
_NEVER = -(2**62)


class RowSlots:
    """Slot of each row of a catalogue, int32[n]; 0 where nothing happens."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.of_row = np.zeros(len(catalogue), np.int32)

    def put(self, ids: Sequence[str], slots: Sequence[int]) -> None:
        rows = self._catalogue.rows(ids)
        known = rows >= 0
        self.of_row[rows[known]] = np.asarray(slots, np.int32)[known]


class LiveStream:
    """The values of one stream view right now. Safe between threads."""

    def __init__(self, view: ViewSpec, capacity: int = 1_024) -> None:
        self.view = view
        self._lock = Lock()
        self._slot_of: dict[str, int] = {}
        self._id_of: list[str] = [""] * capacity
        self._free = list(range(capacity - 1, 0, -1))
        self._sums = np.zeros((len(STREAM_WINDOWS), capacity, len(AMOUNTS)), np.int64)
        self._events = np.zeros(capacity, np.int64)
        self._depth = np.zeros(capacity, np.int64)
        self._last = np.full(capacity, _NEVER, np.int64)
        self._changed = np.zeros(capacity, np.bool_)
        self._gone: set[str] = set()
        self._buckets: dict[int, list[tuple[Rows, NDArray[np.int64]]]] = defaultdict(list)
        self._minute = -(2**40)
        self._row_slots: WeakSet[RowSlots] = WeakSet()
        self._places = [AMOUNTS.index(name) for name in COUNTED[view.name]]
        self._scale = np.array([1000.0 if AMOUNTS[at] == "watch_s" else 1.0 for at in self._places])

    def __len__(self) -> int:
        """Entities that something happened to within the hour."""
        return len(self._slot_of)

    def follow(self, catalogue: Catalogue) -> RowSlots:
        """Slots by the rows of a catalogue, kept up to date for as long as they are held."""
        slots = RowSlots(catalogue)
        with self._lock:
            slots.put(list(self._slot_of), list(self._slot_of.values()))
            self._row_slots.add(slots)
        return slots

    def apply(self, ids: Sequence[str | None], events: Sequence[StreamEvent], now: int) -> None:
        """Count events, each towards its id; what is dated later than ``now`` (µs) counts as of then."""
        with self._lock:
            self._advance(now)
            at = np.array([min(event.ts, now) // MINUTE_US for event in events], np.int64)
            kept = [
                place
                for place, (entity, minute) in enumerate(zip(ids, at, strict=True))
                if entity and minute > self._minute - LONGEST
            ]
            slots = self._slots([str(ids[place]) for place in kept])
            amounts = np.array([amounts_of(events[place]) for place in kept], np.int64)
            amounts = amounts.reshape(-1, len(AMOUNTS))
            minutes = at[kept]
            for window, length in enumerate(STREAM_WINDOWS.values()):
                inside = minutes > self._minute - length
                np.add.at(self._sums[window], slots[inside], amounts[inside])
            np.add.at(self._events, slots, 1)
            self._changed[slots] = True
            for minute in np.unique(minutes):
                of_minute = minutes == minute
                self._buckets[int(minute)].append((slots[of_minute], amounts[of_minute]))
            if self.view is USER_STREAM:
                self._sit(slots, [events[place] for place in kept], now)

    def of_rows(self, slots: RowSlots, rows: Rows, now: int) -> NDArray[np.float32]:
        """Features at ``now`` (µs) of catalogue rows int32[n]: float32[n, d]."""
        with self._lock:
            found = slots.of_row[rows] if self._reach(now) else np.zeros(len(rows), np.int32)
            return self._values(found, now)

    def of(self, ids: Sequence[str], now: int) -> NDArray[np.float32]:
        """Features at ``now`` (µs) by id: float32[n, d]."""
        with self._lock:
            known = self._slot_of if self._reach(now) else {}
            return self._values(np.array([known.get(each, 0) for each in ids], np.int32), now)

    def ids(self) -> list[str]:
        """The entities that something happened to within the hour."""
        with self._lock:
            return [each for each in self._slot_of if not each.startswith(NOBODY)]

    def forget(self, entity: str) -> int:
        """Forget whose an entity's counts are; 1 where there were any. They pass with the hour, nobody's."""
        with self._lock:
            slot = self._slot_of.pop(entity, None)
            if slot is None:
                return 0
            nobody = f"{NOBODY}{slot}"
            self._slot_of[nobody], self._id_of[slot] = slot, nobody
            self._gone.add(entity)
            for each in self._row_slots:
                each.put([entity], [0])
            return 1

    def changes(self, now: int) -> Changes:
        """What changed since this was last asked."""
        with self._lock:
            self._advance(now)
            changed = np.flatnonzero(self._changed).tolist()
            somebody = [slot for slot in changed if not self._id_of[slot].startswith(NOBODY)]
            slots = np.array(somebody, np.int32)
            self._changed[:] = False
            gone = [entity for entity in self._gone if entity not in self._slot_of]
            self._gone.clear()
            return [self._id_of[slot] for slot in slots], self._values(slots, now), gone

    def again(self, ids: Sequence[str], gone: Sequence[str]) -> None:
        """Let :meth:`changes` tell once more of what it told, as it then stands."""
        with self._lock:
            held = (self._slot_of.get(each) for each in ids)
            self._changed[[slot for slot in held if slot is not None]] = True
            self._gone.update(gone)

    def _values(self, slots: Rows, now: int) -> NDArray[np.float32]:
        sums = self._sums[:, slots][:, :, self._places] / self._scale
        columns = [*sums]
        if self.view is USER_STREAM:
            idle = np.minimum(now - self._last[slots], LONGEST * MINUTE_US)
            depth = np.where(idle < SITTING_US, self._depth[slots], 0)
            columns.append(np.stack([depth, np.maximum(idle, 0) / MINUTE_US], axis=1))
        values: NDArray[np.float32] = np.log1p(np.concatenate(columns, axis=1)).astype(np.float32)
        return values

    def _sit(self, slots: Rows, events: Sequence[StreamEvent], now: int) -> None:
        """Engagements one after the other, as each tells whether the sitting before it goes on."""
        for slot, event in zip(slots.tolist(), events, strict=True):
            if event.kind in ENGAGED:
                ts = min(event.ts, now)
                going = ts - self._last[slot] < SITTING_US
                self._depth[slot] = self._depth[slot] + 1 if going else 1
                self._last[slot] = max(self._last[slot], ts)

    def _reach(self, now: int) -> bool:
        """Advance to the time of a read; False where that is so far ahead that nothing is left.

        Then it is by the clock of another day's release, which must not take from the one that counts.
        """
        minute = now // MINUTE_US
        if minute >= self._minute + LONGEST:
            return False
        if minute > self._minute:
            self._advance(now)
        return True

    def _advance(self, now: int) -> None:
        """Take off every window what has left it by ``now``, and give back the slots that are left empty.

        Where the clock steps back by an hour or more, as when an earlier release takes over, all goes.
        """
        minute = now // MINUTE_US
        if minute <= self._minute - LONGEST:
            self._advance((self._minute + LONGEST) * MINUTE_US)
            self._minute = minute
        if minute <= self._minute:
            return
        before, self._minute = self._minute, minute
        for window, length in enumerate(STREAM_WINDOWS.values()):
            for at in [at for at in self._buckets if before - length < at <= minute - length]:
                for slots, amounts in self._buckets[at]:
                    np.subtract.at(self._sums[window], slots, amounts)
                    self._changed[slots] = True
        for at in [at for at in self._buckets if at <= minute - LONGEST]:
            for slots, _ in self._buckets.pop(at):
                np.subtract.at(self._events, slots, 1)
                self._release(np.unique(slots[self._events[slots] == 0]))

    def _release(self, slots: Rows) -> None:
        ids = [self._id_of[slot] for slot in slots]
        for entity, slot in zip(ids, slots.tolist(), strict=True):
            del self._slot_of[entity]
            self._id_of[slot] = ""
            self._free.append(slot)
        self._gone.update(entity for entity in ids if not entity.startswith(NOBODY))
        self._changed[slots] = False
        self._depth[slots], self._last[slots] = 0, _NEVER
        for each in self._row_slots:
            each.put(ids, [0] * len(ids))

    def _slots(self, ids: Sequence[str]) -> Rows:
        """Slots of entities, new ones for those that have none."""
        fresh = [entity for entity in dict.fromkeys(ids) if entity not in self._slot_of]
        while len(self._free) < len(fresh):
            self._grow()
        for entity in fresh:
            slot = self._free.pop()
            self._slot_of[entity], self._id_of[slot] = slot, entity
        for each in self._row_slots:
            each.put(fresh, [self._slot_of[entity] for entity in fresh])
        return np.array([self._slot_of[entity] for entity in ids], np.int32)

    def _grow(self) -> None:
        """Twice as many slots."""
        size = len(self._id_of)
        self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)], axis=1)
        self._events = np.concatenate([self._events, np.zeros_like(self._events)])
        self._depth = np.concatenate([self._depth, np.zeros_like(self._depth)])
        self._last = np.concatenate([self._last, np.full(size, _NEVER, np.int64)])
        self._changed = np.concatenate([self._changed, np.zeros_like(self._changed)])
        self._id_of += [""] * size
        self._free = [*range(2 * size - 1, size - 1, -1), *self._free]
