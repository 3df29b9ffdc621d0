"""What viewers were shown lately, as far as this process heard of it: a bounded memory of impressions."""

from collections import OrderedDict
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue

VIEWERS = 20_000
"""Viewers remembered; the ones shown something least lately make room."""
EACH = 100
"""Impressions remembered of each."""
MOST_NAMES = 1_000_000


class ShownLately:
    """Per viewer the newest impressions, in fixed arrays. Safe between threads."""

    def __init__(self, viewers: int = VIEWERS, each: int = EACH) -> None:
        self._videos = np.full((viewers, each), None, np.object_)
        self._times = np.zeros((viewers, each), np.int64)
        self._written = np.zeros(viewers, np.int64)
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._names: dict[str, str] = {}
        """One copy of each id."""
        self._lock = Lock()

    def add(self, events: pa.Table) -> None:
        """Remember the impressions among some events (columns of EVENTS), in their order."""
        shown = events.filter(pc.equal(events["event_type"], "impression"))
        if not shown.num_rows:
            return
        users = np.asarray(shown["user_id"].to_pylist(), np.object_)
        videos = np.asarray([self._name(each) for each in shown["video_id"].to_pylist()], np.object_)
        times = pc.cast(shown["timestamp"], pa.int64()).to_numpy()
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        with self._lock:
            for start, end in zip(starts, np.r_[starts[1:], len(users)], strict=True):
                self._remember(users[start], videos[start:end], times[start:end])

    def of(
        self, user_id: str, catalogue: Catalogue, now: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows int32[p], one per impression, and seconds since, float32[p]; ``now`` in µs since the epoch."""
        with self._lock:
            slot = self._slots.get(user_id)
            if slot is None:
                return np.empty(0, np.int32), np.empty(0, np.float32)
            filled = slice(0, min(int(self._written[slot]), self._videos.shape[1]))
            videos, times = self._videos[slot, filled].tolist(), self._times[slot, filled].copy()
        rows = catalogue.rows(videos)
        known = rows >= 0
        age_s = np.maximum(now - times[known], 0) / 1e6
        return rows[known], age_s.astype(np.float32)

    def ids(self) -> list[str]:
        """The viewers that are remembered."""
        with self._lock:
            return [each for each in self._slots if not each.startswith("\0")]

    def forget(self, user_id: str) -> int:
        """Forget a viewer; says how many impressions."""
        with self._lock:
            slot = self._slots.pop(user_id, None)
            if slot is None:
                return 0
            count = min(int(self._written[slot]), self._videos.shape[1])
            self._clear(slot)
            self._slots[f"\0{slot}"] = slot  # nobody's id, so that the slot is used again
            self._slots.move_to_end(f"\0{slot}", last=False)
            return count

    def _remember(self, user: str, videos: NDArray[np.object_], times: NDArray[np.int64]) -> None:
        slot = self._slots.get(user)
        if slot is None:
            slot = self._new_slot(user)
        self._slots.move_to_end(user)
        each = self._videos.shape[1]
        at = (self._written[slot] + np.arange(len(videos)))[-each:] % each
        self._videos[slot, at], self._times[slot, at] = videos[-each:], times[-each:]
        self._written[slot] += len(videos)

    def _new_slot(self, user: str) -> int:
        if len(self._slots) < len(self._videos):
            slot = len(self._slots)
        else:
            _, slot = self._slots.popitem(last=False)
            self._clear(slot)
        self._slots[user] = slot
        return slot

    def _clear(self, slot: int) -> None:
        self._videos[slot], self._written[slot] = None, 0

    def _name(self, video_id: str) -> str:
        if len(self._names) > MOST_NAMES:
            self._names.clear()
        return self._names.setdefault(video_id, video_id)
