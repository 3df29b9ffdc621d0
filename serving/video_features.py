"""Features of candidates by catalogue row, from the freshest place that answers."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_repo.packed import PackedFeatures
from feature_repo.rows import Rows, RowSnapshots
from feature_repo.specs import VIDEO_VIEW
from models.bundle import Bundle
from upnext.errors import UpnextError
from upnext.times import microseconds

LOOK_S = 1.0
"""Seconds between two looks for newer rows."""
Reader = Callable[[Callable[[], NDArray[np.float32]]], NDArray[np.float32] | str]
"""Makes a read of the online store, in time and while it is well; else says why there is nothing."""
log = logging.getLogger(__name__)


class VideoFeatures(Protocol):
    """Where the ranker gets video features from."""

    def gather(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.float32], int]:
        """Features of catalogue rows int32[n], float32[n, dv], nan where unknown, and when they held.

        The time is in µs since the epoch; 0 where it is not the same for all of them.
        """
        ...


class OwnFeatures:
    """What a release brought along."""

    def __init__(self, bundle: Bundle) -> None:
        self._features, self._as_of = bundle.video_features, microseconds(bundle.manifest.as_of)

    def gather(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.float32], int]:
        return self._features[rows], self._as_of


@dataclass(frozen=True)
class WithLate:
    """Another place's features, and those of the videos from row ``first`` on: late float32[m, dv]."""

    base: VideoFeatures
    first: int
    late: NDArray[np.float32]

    def gather(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.float32], int]:
        late = rows >= self.first
        found, held_at = self.base.gather(np.where(late, 0, rows).astype(np.int32))
        if late.any():
            found = np.array(found)
            found[late] = self.late[rows[late] - self.first]
        return found, held_at


class FreshFeatures:
    """The newest generation of rows, else the online store by id, else what the release brought along.

    A video that the online store lacks has the release's own features. ``on_fallback`` hears, each time, from
    which place instead of the rows features came, ``online`` or ``release``, and why: no rows, or that the
    store's answer was an error, was late, or was not asked for since its breaker is open.
    """

    def __init__(
        self,
        bundle: Bundle,
        snapshots: RowSnapshots | None,
        online: PackedFeatures,
        read: Reader,
        on_fallback: Callable[[str, str], None] = lambda place, why: None,
    ) -> None:
        self._ids, self._own = bundle.catalogue.ids, OwnFeatures(bundle)
        self._snapshots, self._online = snapshots, online
        self._read, self._on_fallback = read, on_fallback
        self._look_at = 0.0
        self._newest: Rows | None = None

    def gather(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.float32], int]:
        newest = self._rows()
        if newest is not None:
            return newest.gather(rows), newest.as_of_us
        own, as_of = self._own.gather(rows)
        found = self._read(lambda: self._online.read_matrix(VIDEO_VIEW, self._ids[rows].tolist(), own))
        if isinstance(found, str):
            self._on_fallback("release", found.partition(":")[0])
            return own, as_of
        self._on_fallback("online", "no rows")
        return found, 0

    def _rows(self) -> Rows | None:
        if self._snapshots is not None and monotonic() >= self._look_at:
            self._look_at = monotonic() + LOOK_S
            try:
                self._newest = self._snapshots.look()
            except UpnextError as error:
                log.warning("newer video features are not used: %s", error)
                self._on_fallback("rows before", type(error).__name__)
        return self._newest
