"""What serving lays before the ranker is what training would have laid before it at that moment."""

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.context import CONTEXT_HISTORY, context_features
from feature_repo.request import CANDIDATE_NAMES, of_candidates
from feature_repo.searches import Searches
from feature_repo.specs import USER, USER_STREAM, VIDEO, VIDEO_STREAM
from feature_repo.stream_log import StreamLog
from models.affinity import Affinities
from models.columns import codes
from models.crosses import LENGTH, Viewers
from models.layout import FeatureLayout
from serving.ranking import BundleRanker
from serving.streams import Streams
from serving.viewer import Crowd
from tests.support.bundles import tiny_bundle
from tests.support.videos import NOW, viewer_of
from upnext.contracts import EVENTS

MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("ranking"))


def events_of(rows):
    table = pa.Table.from_pylist([dict.fromkeys(EVENTS.names) | row for row in rows])
    at = pa.array([row["timestamp"] for row in rows], pa.int64()).cast(EVENTS.field("timestamp").type)
    columns = [at if f.name == "timestamp" else table[f.name].cast(f.type) for f in EVENTS]
    return pa.table(columns, schema=EVENTS)


def random_events(rng, count):
    kinds = rng.choice(["impression", "click", "watch", "like", "not_interested"], count)
    ago = np.sort(rng.integers(1, 80 * MINUTE_US, count))[::-1]
    return events_of(
        [
            {
                "event_id": f"e{n}",
                "user_id": f"u{rng.integers(0, 3)}",
                "event_type": str(kind),
                "video_id": f"v{rng.integers(0, 20):03}",
                "watch_duration_ms": int(rng.integers(0, 60_000)) if kind == "watch" else None,
                "timestamp": NOW - int(before),
            }
            for n, (kind, before) in enumerate(zip(kinds, ago, strict=True))
        ]
    )


def test_served_features_are_the_trained_ones(bundle):
    rng = np.random.default_rng(0)
    events, streams = random_events(rng, 300), Streams()
    for start in range(0, 300, 50):
        part = events.slice(start, 50)
        streams.add(part, part["timestamp"].cast(pa.int64())[-1].as_py())
    ranker = BundleRanker(bundle, streams.reader(bundle.catalogue))
    features = rng.random(len(USER.names)).astype(np.float32)
    viewer = viewer_of([5, 9, 2], [1, 0.5, -1], features=features, query="topic1 clips", query_age_s=65.0)
    viewer = viewer.asking(user_id="u1")
    history = viewer.past
    vectors = bundle.als.fold_in(history.newest(LENGTH)), bundle.towers.encode(history.newest(LENGTH))
    crowd = Crowd([viewer], history, *vectors)
    rows = rng.permutation(len(bundle.catalogue))[:40].astype(np.int32)

    viewers = Viewers(history, *vectors, np.array([NOW]), np.zeros(1, np.int32), np.full(1, -1, np.int32))
    ts, users = np.full(len(rows), NOW), ["u0", "u1", "u2"]
    searched = {"user_id": "u1", "timestamp": NOW - 65_000_000, "query": "topic1 clips"}
    age, query = Searches.of(events_of([searched]), pa.array(users)).latest(np.ones(len(rows), np.int64), ts)
    videos = bundle.video_features[rows]
    trained = of_candidates(
        bundle.crosses.pairs(viewers, np.zeros(len(rows), np.int64), rows),
        Affinities.of(USER.names, VIDEO.names).features(np.tile(features, (len(rows), 1)), videos, query),
        StreamLog.of(VIDEO_STREAM, events, bundle.catalogue.rows(events["video_id"])).features(rows, ts),
        StreamLog.of(USER_STREAM, events, codes(events["user_id"], users)).features(np.ones(len(rows)), ts),
    )
    served = ranker._candidates(crowd, rows, videos)
    assert served.shape == (len(rows), len(CANDIDATE_NAMES))
    for place, name in enumerate(CANDIDATE_NAMES):
        np.testing.assert_allclose(served[:, place], trained[:, place], rtol=1e-5, atol=1e-6, err_msg=name)
    assert served[:, CANDIDATE_NAMES.index("video_stream__watches_1h")].any()
    layout = FeatureLayout.of(bundle.scorer.schema.context)
    context = context_features(layout, ts[:1], ["home"], [None], history.newest(CONTEXT_HISTORY), age[:1])
    np.testing.assert_array_equal(ranker._moment(crowd), context[0])
    assert np.isfinite(ranker.rank(crowd, rows).utility).all()
