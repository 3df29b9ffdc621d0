"""Trending counts what came in since upon what the release counted: held to a plain sum over all videos."""

import numpy as np
import pyarrow as pa
import pytest

from models.popularity import Popularity
from serving.trending import HOUR_US, LiveCounts, Trending
from tests.support.videos import NOW, catalogue_of
from upnext.contracts import EVENTS

VIDEOS = 60
HALF_LIFE_H = 6.0


def likes(rng, count):
    """Likes of random videos, one in ten of which nobody knows, within three hours."""
    table = {
        "event_id": [f"e{place}" for place in range(count)],
        "user_id": ["u"] * count,
        "event_type": ["like"] * count,
        "video_id": [f"v{row:03d}" for row in rng.integers(0, VIDEOS * 10 // 9, count)],
        "timestamp": NOW + rng.integers(0, 3 * HOUR_US, count),
        "region": rng.choice(["SE", "JP", "NEW"], count).tolist(),
    }
    columns = [
        pa.array(table[each.name], each.type) if each.name in table else pa.nulls(count, each.type)
        for each in EVENTS
    ]
    return pa.table(columns, schema=EVENTS)


def plainly(catalogue, popularity, events, region, depth):
    """Best rows by adding every like to a copy of all counts."""
    index = {"SE": 1, "JP": 2}.get(region, 0)
    scores = popularity.counts[index].astype(np.float64)
    if region == "NEW":
        scores[:] = 0
    for event in events.to_pylist():
        row = int(catalogue.rows([event["video_id"]])[0])
        if row >= 0 and region in (None, event["region"]):
            hours = int(event["timestamp"].timestamp() * 1e6) // HOUR_US - popularity.as_of / HOUR_US
            scores[row] += 2.0 ** (hours / HALF_LIFE_H)
    scores[~catalogue.active] = 0
    best = np.argsort(-scores, kind="stable")[:depth]
    best = best[scores[best] > 0]
    return best, scores[best]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("region", [None, "SE", "JP", "NEW"])
def test_trending_is_the_plain_sum(seed, region):
    rng = np.random.default_rng(seed)
    catalogue = catalogue_of(VIDEOS, status=rng.choice(["active", "active", "blocked"], VIDEOS))
    counts = rng.gamma(0.3, 4, (3, VIDEOS)).astype(np.float32)
    popularity = Popularity(counts, ("SE", "JP"), NOW, HALF_LIFE_H)
    live, ticks = LiveCounts(), iter(range(100))
    trending = Trending(catalogue, popularity, live, depth=15, clock=lambda: next(ticks))
    trending.prime()
    events = likes(rng, 0)
    for _ in range(3):
        rows, scores = trending.top(region)
        known = region if len(events) or region != "NEW" else None  # of which nobody has heard yet
        expected, sums = plainly(catalogue, popularity, events, known, 15)
        np.testing.assert_allclose(scores, sums, rtol=1e-5)
        assert rows.tolist() == expected.tolist()
        more = likes(rng, 40)
        live.add(more, catalogue)
        events = pa.concat_tables([events, more])
