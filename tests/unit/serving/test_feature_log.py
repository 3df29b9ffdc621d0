"""What the feature log says of an answer is what the ranker read, and nothing waits or breaks for it."""

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.offline import defaults
from feature_repo.packed import PackedFeatures
from feature_repo.rows import keep_catalogue, write_rows
from feature_repo.specs import USER, VIDEO
from models.rank_data import BLOCKS
from serving import documents, impressions
from serving.impressions import ImpressionLog
from tests.support.bundles import AS_OF, LAYOUTS
from upnext.contracts import LOGGED_FEATURES
from upnext.errors import StoreUnavailable
from upnext.times import microseconds


class Down:
    """Stands in for a store that does not answer."""

    def append(self, rows):
        raise StoreUnavailable("away")


@pytest.fixture(autouse=True)
def rows(server, bundle):
    """Videos have their features by row, as after a release."""
    ids, layout, root = bundle.catalogue.ids.tolist(), LAYOUTS[VIDEO.name], server.settings.state
    keep_catalogue(root, ids)
    write_rows(root, VIDEO.name, layout, AS_OF, ids, bundle.video_features, defaults(VIDEO.name))
    server.releases.use(bundle, "with rows")


@pytest.fixture
def known(server, rng):
    """A viewer with a past and stored features, float32[du]."""
    stored = rng.random(LAYOUTS[USER.name].width).astype(np.float16)
    features = stored.astype(np.float32)
    packed = PackedFeatures(server.stores.online_features, LAYOUTS)
    packed.write_matrix(USER.name, ["ann"], features[None], microseconds(AS_OF))
    payload = [
        {"user_id": "ann", "video_id": f"v{i:03}", "event_type": "watch", "watch_duration_ms": 50_000}
        for i in (1, 7, 13)
    ]
    assert server.accept(payload)[1]
    return features


def read(rows, block):
    return np.stack([np.frombuffer(value, "<f4") for value in rows[block].to_pylist()])


def test_the_log_holds_what_the_ranker_read(server, known):
    answer = server.engine.home("ann", 12, region="NO", device="phone")
    shown = documents.shown(answer, "session")
    server.impressions.put(shown)
    server.impressions.flush()

    rows = server.stores.feature_log.read().rows
    assert rows.schema == LOGGED_FEATURES
    assert rows["video_id"].to_pylist() == list(shown.video_ids)
    assert rows["position"].to_pylist() == list(range(12))
    first = rows.to_pylist()[0]
    assert (first["request_id"], first["user_id"], first["timestamp"]) == (shown.request_id, "ann", shown.at)
    assert (first["surface"], first["device"], first["region"]) == ("home", "phone", "NO")
    assert microseconds(first["computed_for"]) == answer.viewer.now
    assert (first["user_snapshot"], first["video_snapshot"]) == (AS_OF, AS_OF)
    bundle = answer.release.bundle
    assert (first["release"], first["schema"]) == (answer.release.version, bundle.scorer.schema.hash)
    videos = [VIDEO.names.index(name) for name in bundle.scorer.schema.video]
    plain = known[[USER.names.index(name) for name in bundle.scorer.schema.user]]
    np.testing.assert_array_equal(read(rows, "user"), np.tile(plain, (12, 1)))
    np.testing.assert_array_equal(read(rows, "video"), bundle.video_features[answer.slate.rows][:, videos])

    user, context = (read(rows, block)[0] for block in ("user", "context"))
    heads = bundle.scorer.score(user, read(rows, "video"), context, read(rows, "cross"))
    for head, values in heads.items():
        expected = answer.ranked.heads[head][answer.slate.place]
        np.testing.assert_allclose(values, expected, rtol=1e-5, err_msg=head)


def test_answers_of_several_layouts_share_an_append(server, known):
    answers = [documents.shown(server.engine.home("ann", count), None) for count in (3, 5)]
    narrow = replace(answers[1].features, context=answers[1].features.context[:2], schema="other")
    table = impressions.logged([answers[0], replace(answers[1], features=narrow)])
    assert [len(value) for value in table["context"].to_pylist()][2:5] == [
        4 * len(answers[0].features.context),
        8,
        8,
    ]
    assert all(len(set(map(len, table[block].to_pylist()))) == 1 for block in BLOCKS if block != "context")


def test_a_stranger_has_no_snapshot_and_a_shelf_no_features(server):
    stranger = documents.shown(server.engine.home(None, 5), None)
    assert impressions.logged([stranger])["user_snapshot"].null_count == 5
    assert documents.shown(server.engine.trending(None, "ann", 5), None).features is None


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_a_share_of_the_answers_is_logged(server, known, share, low, high):
    shown = documents.shown(server.engine.home("ann", 2), None)
    writer = ImpressionLog(server.stores.event_log, server.stores.feature_log, share)
    for number in range(200):
        writer.put(replace(shown, request_id=f"request-{number}"))
    writer.flush()
    assert low <= len(server.stores.feature_log.read().rows) / 2 <= high
    assert len(server.stores.event_log.read(limit=1_000).events) == 3 + 400


def test_a_writer_that_lags_keeps_impressions_and_counts_features(server, known, monkeypatch):
    monkeypatch.setattr(impressions, "WITH_FEATURES", 4)
    shown, lost = documents.shown(server.engine.home("ann", 2), None), []
    writer = ImpressionLog(server.stores.event_log, server.stores.feature_log, on_features_lost=lost.append)
    for number in range(10):
        writer.put(replace(shown, request_id=f"request-{number}"))
    writer.flush()
    assert (len(server.stores.feature_log.read().rows), sum(lost)) == (8, 6)
    assert len(server.stores.event_log.read().events) == 3 + 20


def test_a_feature_log_that_is_away_costs_no_impression(server, known):
    shown, lost = documents.shown(server.engine.home("ann", 2), None), []
    writer = ImpressionLog(server.stores.event_log, Down(), on_features_lost=lost.append)
    writer.put(shown)
    writer.flush()
    assert (lost, len(server.stores.event_log.read().events)) == ([1], 3 + 2)
