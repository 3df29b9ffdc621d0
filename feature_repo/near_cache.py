"""What was read lately from a store over the network, kept in this process while the store vouches for it.

Values lie packed in one fixed array, and a thousand ids are looked up by a few numpy calls: the hash of an id
names a set of eight slots, where the whole hash, 64 bits, tells it from the others. That any two of a million
ids share one, so that one gets the other's value, has a chance of 3 in 10⁸. A store tells what has changed
(:class:`upnext.abilities.Follows`); while it can't, all is read from the store itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic, sleep
from typing import Self

import numpy as np
from numpy.typing import NDArray

from upnext.abilities import Following

WAYS = 8
"""Slots of a set: their tags fill one line of the processor's cache."""
ADMITTED = 4
"""A full cache takes in what one in so many requests missed: less work, and what is asked for once in a long
while pushes out less of what is asked for more often. What is frequent gets in all the same."""
_BESIDE = 16
"""Bytes of a slot beside its value: tag and time of use."""
_FREE = 0
"""Tag and time of use of a free slot."""
_Tags = NDArray[np.uint64]
_Slots = NDArray[np.int64]


@dataclass(frozen=True)
class Near:
    """values: uint8[n, size]; what is at ``absent``, int64[m], is yet to be read; seen: for ``keep``."""

    values: NDArray[np.uint8]
    absent: NDArray[np.int64]
    seen: int


class NearCache:
    """Packed values of one view by id; a new one takes the slot of its set that was unused for longest.

    ``counts`` are hits, misses, bypassed (asked while the store could not vouch), evicted and forgotten.
    Safe to share between threads.
    """

    def __init__(self, slots: int, size: int) -> None:
        """For values of ``size`` bytes, header included, in so many slots, less what fills no set."""
        ways = min(WAYS, slots)
        self._tags = np.zeros((slots // ways, ways), np.uint64)
        self._flat = self._tags.reshape(-1)
        self._used = np.zeros(self._tags.shape, np.int64)
        self._values = np.zeros(self._tags.size, np.dtype((np.void, size)))  # opaque: gathers twice as fast
        self._size = size
        self._clock = _FREE
        self._seen = 0
        self._full = False
        self._turn = 0
        self._lock = Lock()
        self._following: Following | None = None
        self.counts: Counter[str] = Counter()

    @classmethod
    def of(cls, megabytes: int, size: int) -> Self:
        """As many slots for values of ``size`` bytes as fit, what stands beside them included."""
        return cls(max(1, megabytes * 1_000_000 // (size + _BESIDE)), size)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._flat))

    @property
    def slots(self) -> int:
        return len(self._flat)

    def follow(self, following: Following) -> None:
        """Serve from here on what the store vouches for."""
        self._following = following

    def await_vouched(self, timeout_s: float) -> bool:
        """Wait until the store vouches for what is here; says whether it does."""
        deadline = monotonic() + timeout_s
        while self._following is not None and not self._following.vouches():
            if monotonic() > deadline:
                return False
            sleep(0.005)
        return self._following is not None

    def close(self) -> None:
        """Stop following and keep nothing."""
        following, self._following = self._following, None
        if following is not None:
            following.close()
        self.clear()

    def look(self, ids: Sequence[str]) -> Near:
        """What is here, expired or not, as the store has it; all are absent while nobody vouches."""
        following = self._following
        if following is None or not following.vouches():
            with self._lock:
                self.counts["bypassed"] += len(ids)
            return Near(np.zeros((len(ids), self._size), np.uint8), np.arange(len(ids)), -1)
        tags = _tags(ids)
        with self._lock:
            seen = self._seen
            slots, found = self._find(tags)
            values = self._values.take(slots).view(np.uint8).reshape(len(ids), self._size)
            self._clock += 1
            self._used.reshape(-1)[slots[found]] = self._clock
            absent = np.flatnonzero(~found)
            self.counts["hits"] += len(ids) - len(absent)
            self.counts["misses"] += len(absent)
        return Near(values, absent, seen)

    def keep(self, ids: Sequence[str], values: NDArray[np.uint8], seen: int) -> None:
        """Keep uint8[n, size], read after :meth:`look`, unless anything was forgotten since: it may be older.

        A full cache keeps one in ``ADMITTED`` of what it is given. Of more than a set's slots that fall into
        one set, the first stay.
        """
        with self._lock:
            self._turn += 1
            if seen != self._seen or not len(ids) or (self._full and self._turn % ADMITTED):
                return
            tags = _tags(ids)
            first = np.sort(np.unique(tags, return_index=True)[1])
            self._release(tags)  # another thread was as quick
            first, slots = self._places(first, tags[first])
            evicted = int(np.count_nonzero(self._flat[slots]))
            self.counts["evicted"] += evicted
            self._full = 2 * evicted > len(slots)
            self._clock += 1
            self._flat[slots], self._used.reshape(-1)[slots] = tags[first], self._clock
            self._values[slots] = np.ascontiguousarray(values[first]).view(self._values.dtype).reshape(-1)

    def forget(self, ids: Sequence[str]) -> None:
        """These have changed."""
        tags = _tags(ids)
        with self._lock:
            self._seen += 1
            self._release(tags)
            self.counts["forgotten"] += len(ids)

    def clear(self) -> None:
        """Anything may have changed."""
        with self._lock:
            self._seen += 1
            self._full = False
            self._tags[:] = _FREE
            self._used[:] = _FREE

    def _find(self, tags: _Tags) -> tuple[_Slots, NDArray[np.bool_]]:
        """Slot of each tag, any where it has none, and whether it has one. No tag has two."""
        sets = self._sets(tags)
        same = self._tags.take(sets, axis=0) == tags[:, None]
        slots = sets * self._tags.shape[1] + same.argmax(axis=1)
        return slots, self._flat.take(slots) == tags

    def _places(self, order: _Slots, tags: _Tags) -> tuple[_Slots, _Slots]:
        """Which of ``order``, int64[n], find a slot in the set of their tag, and which slot: the idlest."""
        by_set = np.argsort(self._sets(tags), kind="stable")
        sets = self._sets(tags)[by_set]
        place = np.arange(len(sets))
        rank = place - np.searchsorted(sets, sets)
        fit = rank < self._tags.shape[1]
        sets, rank = sets[fit], rank[fit]
        idlest = np.argsort(self._used.take(sets, axis=0), axis=1)
        return order[by_set[fit]], sets * self._tags.shape[1] + idlest[np.arange(len(sets)), rank]

    def _release(self, tags: _Tags) -> None:
        slots, found = self._find(tags)
        gone = slots[found]
        self._flat[gone] = _FREE
        self._used.reshape(-1)[gone] = _FREE

    def _sets(self, tags: _Tags) -> _Slots:
        return (tags % np.uint64(len(self._tags))).view(np.int64)


def _tags(ids: Sequence[str]) -> _Tags:
    """Python's own hash of each id, which a sender of ids can't foresee; never that of a free slot."""
    tags = np.fromiter(map(hash, ids), np.int64, len(ids)).view(np.uint64)
    tags[tags == _FREE] = 1
    return tags
