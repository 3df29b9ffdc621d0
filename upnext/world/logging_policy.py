"""The policy that made the log: a mixture that explores, with its exact propensities.

Each slot of a page is an independent draw from

    p(v | viewer, day) = 0.20 / n  +  0.45 · f_v / F  +  0.35 · q_k(v) · g_v / G_k(v)

over the n videos live when the day began. f_v is the platform's popularity and freshness of a video on that
day (F the sum over videos), q_k the viewer's taste for topic k as the platform believes it (renormalised
over topics that have a live video; after a search the searched topic has all of it), g_v = sqrt(f_v) and
G_k the sum of g over topic k.

Repeats: a slot that draws a video which an earlier slot of the page drew stays empty, and so does one that
draws an age-restricted video for a minor. Being seen at position i therefore takes drawing v there and at
none of the i places above, which has probability p(v) · (1 - p(v))^i exactly: that is the propensity in the
log.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.world.catalogue import Videos
from upnext.world.config import DAY_US
from upnext.world.draws import Floats
from upnext.world.geography import TOPICS

UNIFORM, POPULAR, TOPICAL = 0.20, 0.45, 0.35
_TREND_DAYS = 4.0
_FRESH_DAYS = 30.0


@dataclass(frozen=True)
class LoggingPolicy:
    """The mixture on one day over the n videos live at its start.

    popular, topical: float64[n], f and g. topics: int8[n]. order: int32[n], rows sorted by topic.
    edges: int64[25], where each topic begins in that order. popular_below: float64[n], running sum of f.
    topical_below: float64[n + 1], running sum of g in topic order.
    """

    popular: Floats
    topical: Floats
    topics: NDArray[np.int8]
    order: NDArray[np.int32]
    edges: NDArray[np.int64]
    popular_below: Floats
    topical_below: Floats

    @classmethod
    def of_day(cls, videos: Videos, live: int, day_us: int) -> "LoggingPolicy":
        """The policy of the day that begins at ``day_us``, when the first ``live`` videos are up."""
        age_days = (day_us - videos.uploaded_us[:live]) / DAY_US
        wanted = 0.8 * videos.quality[:live] + videos.trend[:live] * np.exp(-age_days / _TREND_DAYS)
        popular = np.exp(wanted) * (0.3 + np.exp2(-age_days / _FRESH_DAYS))
        topical = np.sqrt(popular)
        topics = videos.topic[:live]
        order = np.argsort(topics, kind="stable").astype(np.int32)
        return cls(
            popular=popular,
            topical=topical,
            topics=topics,
            order=order,
            edges=np.searchsorted(topics[order], np.arange(len(TOPICS) + 1)),
            popular_below=np.cumsum(popular),
            topical_below=np.concatenate([[0.0], np.cumsum(topical[order])]),
        )

    def beliefs(self, tastes: Floats) -> Floats:
        """Tastes [B, 24] renormalised over the topics that have a live video."""
        kept = tastes * (np.diff(self.edges) > 0)
        total = kept.sum(axis=1, keepdims=True)
        anything = (np.diff(self.edges) > 0) / np.count_nonzero(np.diff(self.edges))
        shares: Floats = np.where(total > 0, kept / np.where(total > 0, total, 1.0), anything)
        return shares

    def probability(self, beliefs: Floats, rows: NDArray[np.int32]) -> Floats:
        """p(v | viewer, day) of rows int32[B, K]: float64[B, K]; over all live rows it sums to one."""
        topic = self.topics[rows].astype(np.int64)
        mass = np.diff(self.topical_below[self.edges])
        within = self.topical[rows] / mass[topic]
        chance: Floats = (
            UNIFORM / len(self.topics)
            + POPULAR * self.popular[rows] / self.popular_below[-1]
            + TOPICAL * np.take_along_axis(beliefs, topic, axis=1) * within
        )
        return chance

    def draw(self, beliefs: Floats, draws: Floats) -> NDArray[np.int32]:
        """Rows int32[B, K] from uniform draws float64[B, K, 3]: component, row or topic, row in the topic."""
        part, first, second = draws[..., 0], draws[..., 1], draws[..., 2]
        rows = (first * len(self.topics)).astype(np.int32)
        popular = (part >= UNIFORM) & (part < UNIFORM + POPULAR)
        rows[popular] = _find(self.popular_below, first[popular] * self.popular_below[-1])
        topical = part >= UNIFORM + POPULAR
        below = np.cumsum(beliefs, axis=1)[np.nonzero(topical)[0]]
        topic = (first[topical, None] * below[:, -1:] >= below).sum(axis=1)
        edge = self.topical_below[self.edges]
        aim = edge[topic] + second[topical] * (edge[topic + 1] - edge[topic])
        place = _find(self.topical_below, aim) - 1
        rows[topical] = self.order[np.clip(place, self.edges[topic], self.edges[topic + 1] - 1)]
        return rows


def _find(below: Floats, aims: Floats) -> NDArray[np.int64]:
    """Where each aim falls in a running sum; looked up in order, which spares a large sum cache misses."""
    order = np.argsort(aims)
    places = np.empty(len(aims), dtype=np.int64)
    places[order] = np.searchsorted(below, aims[order], side="right")
    return np.minimum(places, len(below) - 1)


def without_repeats(drawn: NDArray[np.int32], barred: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Slots int32[B, K], -1 where an earlier slot drew the same video or where barred (bool[B, K])."""
    before = np.tri(drawn.shape[1], k=-1, dtype=np.bool_)
    again = ((drawn[:, :, None] == drawn[:, None, :]) & before).any(axis=2)
    return np.where(again | barred, np.int32(-1), drawn)


def propensities(chance: Floats) -> Floats:
    """Probability p · (1 - p)^i of being seen at each position i, from the slot's p: float64[B, K]."""
    seen: Floats = chance * (1.0 - chance) ** np.arange(chance.shape[1])
    return seen
