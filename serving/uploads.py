"""Videos that came after a release was made: heard of from the catalogue store, and found beside a video."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.stacked import Stacked, Vectors
from serving.candidates import Candidates
from serving.viewer import Crowd
from upnext.contracts import VIDEOS
from upnext.ports import Catalogue as CatalogueStore

MOST = 20_000
"""Videos remembered, the newest writes; beyond that older ones wait for the next release. So many writes are
read at one look, too."""
OVERLAP = timedelta(seconds=10)
"""What was written so shortly before the last look is read again: writers' clocks differ, and a write takes
its time until others see it."""
ALIKE = 0.5
"""An upload is like a video that it is at least half as near to as that video's neighbours are."""
SHARE, PLACES = 8, 5
"""One candidate in so many is an upload: beside a video, and for a viewer."""
log = logging.getLogger(__name__)


class Uploads:
    """What the platform told of lately, in every process that shares the store. Safe between threads."""

    def __init__(self, store: CatalogueStore) -> None:
        self._store, self._lock = store, Lock()
        self._releases: list[ref[Catalogue]] = []
        self._since: datetime | None = None
        self._looked_to: datetime | None = None
        self._told: dict[str, Mapping[str, Any]] = {}
        self.version = 0
        """Grows with every change."""

    def follow(self, catalogue: Catalogue, as_of: datetime) -> None:
        """Remember, from the next look on, what was told since a release was made and is not in it."""
        with self._lock:
            self._releases = [each for each in self._releases if each() is not None] + [ref(catalogue)]
            self._since = as_of if self._since is None else min(as_of, self._since)
            self._looked_to = None

    def refresh(self) -> None:
        """Take over what was told since the last look."""
        with self._lock:
            since = self._looked_to or self._since
            if since is None:
                return
            now = datetime.now(UTC)
            table = self._store.told(since - OVERLAP, MOST)
            self._looked_to = now
            table = table.filter(pa.array(~self._known(table["video_id"].to_pylist())))
            held = self._told
            ids, times = table["video_id"].to_pylist(), table["told_at"].to_pylist()
            news = [
                place
                for place, (video_id, told_at) in enumerate(zip(ids, times, strict=True))
                if video_id not in held or held[video_id]["told_at"] != told_at
            ]
            if not news:
                return
            merged = {**held, **{row["video_id"]: row for row in table.take(news).to_pylist()}}
            if len(merged) > MOST:
                log.warning("%d videos came after the release: the %d newest are served", len(merged), MOST)
                kept = sorted(merged, key=lambda video_id: merged[video_id]["told_at"])[-MOST:]
                merged = {video_id: merged[video_id] for video_id in kept}
            self._told = merged
            self.version += 1

    def _known(self, ids: list[str]) -> NDArray[np.bool_]:
        """bool[k]: those that every release in use has; one that is written again is not new to any."""
        releases = [catalogue for each in self._releases if (catalogue := each()) is not None]
        there = [catalogue.rows(ids) >= 0 for catalogue in releases]
        return np.all(there, axis=0) if there else np.zeros(len(ids), np.bool_)

    def table(self) -> pa.Table:
        """All of them, columns of VIDEOS."""
        return pa.Table.from_pylist(list(self._told.values()), schema=VIDEOS)


@dataclass(frozen=True)
class AlikeUploads:
    """Uploads near the video being looked at, else those that are the likeliest to be to the viewer's taste.

    directions: float32[n + m, d] of all videos; late: float32[m, d + 1], vectors of rows n to n + m - 1, the
    last place their popularity, which is what their content lets expect;
    neighbours: int32[n + m, k] and likeness float32[n + m, k], above 0 of those that are alike.
    """

    directions: Vectors
    late: NDArray[np.float32]
    neighbours: Stacked[np.int32]
    likeness: Stacked[np.float32]

    def retrieve(self, crowd: Crowd, k: int) -> list[Candidates]:
        return [
            self._like_video(viewer.seed, -(-k // SHARE))
            if viewer.seed >= 0
            else self._nearest(taste, 0.0, -(-k // PLACES))
            for viewer, taste in zip(crowd.viewers, crowd.tower, strict=True)
        ]

    def _like_video(self, seed: int, k: int) -> Candidates:
        row = np.asarray([seed])
        direction, beside = self.directions[row][0], self.neighbours[row][self.likeness[row] > 0]
        usual = self.directions[beside] @ direction
        least = ALIKE * (float(np.median(usual)) if len(usual) else 1.0)
        found = self._nearest(np.append(direction, np.float32(0)), least, k)
        return Candidates.of(found.rows, found.scores, seed).where(found.rows != seed)

    def _nearest(self, vector: NDArray[np.float32], least: float, k: int) -> Candidates:
        """The k best by product with a vector float32[d + 1], of those whose cosine is above ``least``."""
        cosines = self.late[:, :-1] @ vector[:-1]
        near = np.flatnonzero(cosines > least)
        scores = cosines[near] + self.late[near, -1] * vector[-1]
        if len(near) > k:
            kept = np.sort(np.argpartition(-scores, k - 1)[:k])
            near, scores = near[kept], scores[kept]
        best = np.argsort(-scores, kind="stable")
        return Candidates.of(near[best] + len(self.directions) - len(self.late), scores[best])
