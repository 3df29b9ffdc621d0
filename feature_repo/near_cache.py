"""What was read lately from a store over the network, kept in this process while the store vouches for it.

Rows lie unpacked in fixed arrays, so that a hit costs a look-up and its share of one gather. A store tells
what has changed (:class:`upnext.abilities.Follows`); while it can't, all is read from the store itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from threading import Lock
from time import monotonic, sleep
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.layout import FOUND, NEVER, Unpacked
from upnext.abilities import Following

_BESIDE = 17
"""Bytes of a slot beside its row: timestamp, expiry and mark of use."""


@dataclass(frozen=True)
class Near:
    """rows: float32[n, d] and timestamps int64[n], µs; seen: for ``keep``.

    Those at ``absent``, int64[m], are yet to be read.
    """

    rows: NDArray[np.float32]
    timestamps: NDArray[np.int64]
    absent: NDArray[np.int64]
    seen: int


class NearCache:
    """Rows of one view by id, evicted by CLOCK: what was used since the hand last passed stays.

    ``counts`` are hits, misses, bypassed (asked while the store could not vouch), evicted and forgotten.
    Safe to share between threads.
    """

    def __init__(self, slots: int, width: int) -> None:
        self._rows = np.zeros((slots, width), np.float32)
        self._cells = self._rows.view(np.dtype((np.void, 4 * width))).reshape(slots)  # gathers twice as fast
        self._stamps = np.zeros(slots, np.int64)
        self._expiry = np.full(slots, NEVER, np.int64)
        self._used = np.zeros(slots, np.bool_)
        self._taken = np.zeros(slots, np.bool_)  # by the eviction under way, which may pass a slot twice
        self._ids: list[str | None] = [None] * slots
        self._slot_of: dict[str, int] = {}
        self._hand = 0
        self._seen = 0
        self._lock = Lock()
        self._following: Following | None = None
        self.counts: Counter[str] = Counter()

    @classmethod
    def of(cls, megabytes: int, width: int) -> Self:
        """As many slots for rows float32[width] as fit, beside which each id costs some 100 bytes."""
        return cls(max(1, megabytes * 1_000_000 // (4 * width + _BESIDE)), width)

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def slots(self) -> int:
        return len(self._rows)

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

    def look(self, ids: Sequence[str], now: int) -> Near:
        """Rows that are here and hold at ``now``, µs since the epoch; all are absent while nobody vouches."""
        following = self._following
        if following is None or not following.vouches():
            self.counts["bypassed"] += len(ids)
            rows = np.empty((len(ids), self._rows.shape[1]), np.float32)
            return Near(rows, np.zeros(len(ids), np.int64), np.arange(len(ids)), -1)
        with self._lock:
            seen = self._seen
            slots = np.fromiter(map(self._slot_of.get, ids, repeat(-1)), np.int64, len(ids))
            lacks = (slots < 0) | (self._expiry.take(slots, mode="wrap") <= now)
            cells, stamps = (kept.take(slots, mode="wrap") for kept in (self._cells, self._stamps))
            self._used[slots[~lacks]] = True
        absent = np.flatnonzero(lacks)
        self.counts["hits"] += len(ids) - len(absent)
        self.counts["misses"] += len(absent)
        return Near(cells.view(np.float32).reshape(len(ids), self._rows.shape[1]), stamps, absent, seen)

    def keep(self, ids: Sequence[str], read: Unpacked, seen: int) -> None:
        """Keep what was read after :meth:`look`, unless anything was forgotten since: it may be older."""
        good = np.flatnonzero(read.lack == FOUND)[: self.slots]
        with self._lock:
            if seen != self._seen or not len(good):
                return
            places = {ids[place]: place for place in good.tolist()}
            for id_ in places:
                self._release(id_)  # expired, or another thread was as quick
            slots = self._evict(len(places))
            for id_, slot in zip(places, slots, strict=True):
                self._slot_of[id_], self._ids[slot] = slot, id_
            chosen = list(places.values())
            self._rows[slots], self._stamps[slots] = read.rows[chosen], read.timestamps[chosen]
            self._expiry[slots] = read.expiries[chosen]

    def forget(self, ids: Sequence[str]) -> None:
        """These have changed."""
        with self._lock:
            self._seen += 1
            for id_ in ids:
                self._release(id_)
        self.counts["forgotten"] += len(ids)

    def clear(self) -> None:
        """Anything may have changed."""
        with self._lock:
            self._seen += 1
            self._slot_of.clear()
            self._ids = [None] * self.slots
            self._used[:] = False

    def _release(self, id_: str) -> None:
        slot = self._slot_of.pop(id_, None)
        if slot is not None:
            self._ids[slot] = None
            self._used[slot] = False

    def _evict(self, number: int) -> list[int]:
        """So many free slots, at most all of them; the hand takes what was not used since it last passed."""
        taken: list[int] = []
        while len(taken) < number:
            window = np.arange(self._hand, min(self._hand + max(4 * number, 64), self.slots))
            idle = window[~(self._used[window] | self._taken[window])][: number - len(taken)]
            enough = len(idle) == number - len(taken)
            passed = int(idle[-1] if enough else window[-1]) + 1
            self._used[self._hand : passed] = False
            self._taken[idle] = True
            self._hand = passed % self.slots
            taken += idle.tolist()
        self._taken[taken] = False
        for slot in taken:
            before = self._ids[slot]
            if before is not None:
                del self._slot_of[before]
                self._ids[slot] = None
                self.counts["evicted"] += 1
        return taken
