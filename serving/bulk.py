"""Recommending for many viewers at once, with the stages that serve, as of a time of the lake.

Nothing of that time or later is looked at: history is what the lake's outcomes say strictly before it,
features are the newest snapshot at or before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.offline import aligned
from feature_repo.specs import USER_VIEW
from models.bundle import Bundle
from models.columns import codes
from models.dataset import Interactions
from models.history import Histories
from serving import postrank
from serving.clock import microseconds
from serving.funnel import Funnel, build
from serving.postrank import HOME, SHELF, Slate
from serving.ranking import BundleRanker
from serving.trending import LiveCounts
from serving.viewer import SEEN, Viewer
from upnext.errors import MissingData
from upnext.ports import Lake

TOGETHER = 256
"""Viewers whose retrieval is one matrix product."""
STAGES = ("retrieval", "ranking", "final")
POLICIES = ("funnel", "popularity", "random")


@dataclass(frozen=True)
class Picks:
    """What one viewer is given: catalogue rows int32[k] and scores float32[k], best first."""

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Bulk:
    """Recommends from a bundle as of a time."""

    funnel: Funnel
    lake: Lake
    at: datetime

    @classmethod
    def of(cls, bundle: Bundle, lake: Lake, at: datetime) -> "Bulk":
        return cls(build(bundle, BundleRanker(bundle), LiveCounts()), lake, at)

    def viewers(self, user_ids: Sequence[str]) -> list[Viewer]:
        """Viewers as they were just before the time."""
        pasts = self._pasts(user_ids)
        features = aligned(self.lake, USER_VIEW, self.at, user_ids)
        known = self._profiles(user_ids)
        now = microseconds(self.at)
        return [
            Viewer(user_id, now, pasts[place : place + 1], features[place], **known.get(user_id, {}))
            for place, user_id in enumerate(user_ids)
        ]

    def recommend(
        self, viewers: Sequence[Viewer], policy: str, stage: str, count: int
    ) -> Iterator[tuple[Viewer, Picks]]:
        """Each viewer's first ``count`` by a policy; the funnel may be left after an earlier stage."""
        if policy == "funnel":
            yield from self._funnel(viewers, stage, count)
            return
        score = self._popularity if policy == "popularity" else self._random
        everything = np.arange(len(self.funnel.bundle.catalogue), dtype=np.int32)
        for viewer in viewers:
            situation = self.funnel.situation(viewer, count)
            slate = postrank.apply(SHELF, Slate.of(everything, score(viewer)), situation)
            yield viewer, Picks(slate.rows, slate.score)

    def order(
        self, viewers: Sequence[Viewer], given: Sequence[NDArray[np.int32]], policy: str
    ) -> Iterator[tuple[Viewer, Picks]]:
        """Given rows int32[m] of each viewer, all of them, best first by a policy."""
        for start in range(0, len(viewers), TOGETHER):
            crowd = self.funnel.crowd(viewers[start : start + TOGETHER])
            for place, viewer in enumerate(crowd.viewers):
                rows = given[start + place]
                if policy == "funnel":
                    scores = self.funnel.ranker.rank(crowd[place : place + 1], rows).utility
                else:
                    everything = self._popularity(viewer) if policy == "popularity" else self._random(viewer)
                    scores = everything[rows]
                best = np.argsort(-scores, kind="stable")
                yield viewer, Picks(rows[best], scores[best])

    def _funnel(self, viewers: Sequence[Viewer], stage: str, count: int) -> Iterator[tuple[Viewer, Picks]]:
        funnel = self.funnel
        per_retriever = funnel.config.limits.per_retriever
        for start in range(0, len(viewers), TOGETHER):
            crowd = funnel.crowd(viewers[start : start + TOGETHER])
            found = {name: each.retrieve(crowd, per_retriever) for name, each in funnel.retrievers.items()}
            for place, viewer in enumerate(crowd.viewers):
                situation = funnel.situation(viewer, count, seed=crc32(viewer.user_id.encode()))
                pool = funnel.pool(viewer, {name: each[place] for name, each in found.items()}, situation)
                if stage == "retrieval":
                    yield viewer, Picks(pool.rows[:count], pool.fused[:count])
                    continue
                ranked = funnel.ranker.rank(crowd[place : place + 1], pool.rows)
                rules = (postrank.by_score,) if stage == "ranking" else HOME
                slate = funnel.slate(pool, ranked, viewer, situation, rules)
                yield viewer, Picks(slate.rows, slate.score)

    def _popularity(self, viewer: Viewer) -> NDArray[np.float32]:
        return self.funnel.bundle.popularity.scores(viewer.region)

    def _random(self, viewer: Viewer) -> NDArray[np.float32]:
        rng = np.random.default_rng(crc32(viewer.user_id.encode()))
        return rng.random(len(self.funnel.bundle.catalogue), np.float32)

    def _pasts(self, user_ids: Sequence[str]) -> Histories:
        outcomes = self.lake.scan("outcomes")
        ids = pa.array(user_ids, pa.string())
        mine = pc.field("user_id").isin(ids) & (pc.field("engaged_at") < pa.scalar(self.at))
        users = list(dict.fromkeys(user_ids))
        past = Interactions.of(outcomes.to_table(filter=mine), self.funnel.bundle.catalogue, users)
        now = np.full(len(user_ids), microseconds(self.at))
        return past.histories(codes(ids, users), now, SEEN)

    def _profiles(self, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = ["user_id", "region", "language", "device", "topics", "kids_mode"]
        try:
            users = self.lake.scan("users")
        except MissingData:
            return {}
        there = [name for name in columns if name in users.schema.names]
        mine = users.to_table(columns=there, filter=pc.field("user_id").isin(pa.array(user_ids, pa.string())))
        return {
            row.pop("user_id"): row
            | {"topics": tuple(row["topics"] or ()), "kids": bool(row.pop("kids_mode", False))}
            for row in mine.to_pylist()
        }
