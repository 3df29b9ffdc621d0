"""Recommending for many viewers at once, with the stages that serve, as of a time of the lake.

Nothing of that time or later is looked at: history is what the lake's outcomes say strictly before it,
features are the newest snapshot at or before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.offline import aligned
from feature_repo.specs import USER_VIEW
from feature_repo.stream import LONGEST
from models.bundle import Bundle
from models.columns import codes
from models.dataset import Interactions
from models.history import Histories
from serving.funnel import Funnel, build
from serving.policies import SCORES_ANY, TOGETHER, Picks, Policy, choose, whole_catalogue
from serving.ranking import BundleRanker
from serving.streams import Streams
from serving.trending import LiveCounts
from serving.viewer import SEEN, Viewer
from upnext.errors import ConfigError, MissingData
from upnext.ports import Lake
from upnext.times import microseconds


@dataclass(frozen=True)
class Bulk:
    """Recommends from a bundle as of a time."""

    funnel: Funnel
    lake: Lake
    at: datetime

    @classmethod
    def of(cls, bundle: Bundle, lake: Lake, at: datetime) -> "Bulk":
        ranker = BundleRanker(bundle, _streams(lake, at).reader(bundle.catalogue))
        return cls(build(bundle, ranker, LiveCounts()), lake, at)

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
        yield from zip(viewers, choose(self.funnel, viewers, Policy.parse(policy), stage, count), strict=True)

    def order(
        self, viewers: Sequence[Viewer], given: Sequence[NDArray[np.int32]], policy: str
    ) -> Iterator[tuple[Viewer, Picks]]:
        """Given rows int32[m] of each viewer, all of them, best first by a policy that scores any video."""
        kind = Policy.parse(policy).kind
        if kind not in SCORES_ANY:
            raise ConfigError(f"policy {policy} can't order given pairs: take one of {', '.join(SCORES_ANY)}")
        for start in range(0, len(viewers), TOGETHER):
            crowd = self.funnel.crowd(viewers[start : start + TOGETHER])
            for place, viewer in enumerate(crowd.viewers):
                rows = given[start + place]
                heads: Mapping[str, NDArray[np.float32]] = {}
                if kind == "funnel":
                    ranked = self.funnel.ranker.rank(crowd[place : place + 1], rows)
                    scores, heads = ranked.utility, ranked.heads
                else:
                    scores = whole_catalogue(self.funnel, viewer, kind)[rows]
                best = np.argsort(-scores, kind="stable")
                told = {name: head[best] for name, head in heads.items()}
                yield viewer, Picks(rows[best], scores[best], told)

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


def _streams(lake: Lake, at: datetime) -> Streams:
    """What the stream views said just before a time."""
    streams, time = Streams(), pc.field("timestamp")
    if lake.version("events") < 0:
        return streams
    since = at - timedelta(minutes=LONGEST)
    recent = lake.scan("events").to_table(filter=(time >= pa.scalar(since)) & (time < pa.scalar(at)))
    streams.add(recent.take(pc.sort_indices(recent["timestamp"])), microseconds(at))
    return streams
