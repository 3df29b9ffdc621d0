"""Videos that came after the release: found, recommended, explained, taken away and held by the next."""

from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from models.catalogue import Catalogue
from models.stacked import Stacked
from serving import uploads
from serving.api import create_app
from serving.deadlines import Trace
from serving.rules import FunnelConfig, Limits
from serving.server import Server
from tests.support.bundles import AS_OF, tiny_bundle, tiny_catalogue
from tests.support.client import Client
from upnext.contracts import VIDEOS
from upnext.errors import StoreUnavailable
from upnext.settings import Settings

SHELF, VIDEOS_AT = "/api/v1/recommendations/", "/api/v1/videos/"
ZEBRA = {
    "title": "Zebra crossing",
    "category": "topic3",
    "creator_id": "newcomer",
    "duration_ms": 60_000,
    "language": "en",
}


def put(client, video_id="zebra", **fields):
    answer = client.send("PUT", VIDEOS_AT + video_id, json={**ZEBRA, **fields})
    assert answer.status_code in (200, 201), answer.text


def watch(client, user, *videos):
    at = datetime.now(UTC).isoformat()
    events = [
        {
            "user_id": user,
            "video_id": video,
            "event_type": "watch",
            "watch_duration_ms": 60_000,
            "timestamp": at,
        }
        for video in videos
    ]
    answer = client.post("/api/v1/events/engagement", json=events)
    assert answer.json()["accepted"] == len(videos) and answer.json()["applied"], answer.text


def shelf(client, name, **asked):
    answer = client.get(SHELF + name, params={"count": 50, **asked})
    assert answer.status_code == 200, answer.text
    return {item["video_id"]: item for item in answer.json()["items"]}


def found(client, query, **asked):
    answer = client.get("/api/v1/search", params={"q": query, **asked})
    return [item["video_id"] for item in answer.json()["items"]]


@pytest.fixture
def known(server):
    """The release's own videos were shown so often that nothing is left to explore among them."""
    release = server.engine.current
    release.bundle.exposure.impressions[:] = 10_000
    server.releases.use(release.bundle, release.version)


@pytest.fixture
def fan(client, known):
    """Has watched videos of topic 3, and of nothing else."""
    watch(client, "fan", "v003", "v009", "v015", "v021")
    return "fan"


def test_a_new_video_is_searched_for_and_recommended_wherever_it_belongs(server, client, fan):
    assert found(client, "zebra") == []
    put(client)
    server.renewal.once()
    assert not server.renewal.failing
    assert found(client, "zebra") == ["zebra"]
    assert "zebra" in shelf(client, "new-releases", user_id=fan, count=121)
    home = shelf(client, "home", user_id=fan)["zebra"]
    assert {"two_tower", "new", "uploads"} <= set(home["sources"]) and "als" not in home["sources"]
    assert (home["title"], home["creator_id"]) == ("Zebra crossing", "newcomer")
    assert home["reason"]["code"] == "explore"
    related = shelf(client, "related", video_id="v003", user_id=fan)["zebra"]
    assert related["sources"] == ["topics", "uploads"]
    assert (related["reason"]["code"], related["reason"]["because_of"]) == ("related", "v003")
    assert "zebra" not in shelf(client, "related", video_id="v004", user_id=fan)
    after = shelf(client, "end-screen", video_id="v003", user_id=fan, count=121)["zebra"]
    assert {"uploads", "two_tower"} <= set(after["sources"])
    assert "zebra" in shelf(client, "topic/topic3")


def test_of_many_uploads_a_viewer_gets_those_of_their_taste(server, client, fan):
    """Thirty of each topic, the topic watched uploaded first: what is merely new would be the others."""
    at = datetime.now(UTC)
    ages = {f"topic{topic}": timedelta(hours=10 - topic if topic != 3 else 20) for topic in range(6)}
    made = [
        {**ZEBRA, "video_id": f"{topic}-{number}", "category": topic, "uploaded_at": (at - age).isoformat()}
        for topic, age in ages.items()
        for number in range(30)
    ]
    assert client.post("/api/v1/videos:bulk", json=made).json()["written"] == 180
    server.renewal.once()
    release = server.engine.current
    crowd = release.funnel.crowd([server.engine.viewer(release, fan, Trace())])
    (found,) = release.funnel.retriever("uploads").retrieve(crowd, 200)
    categories = [
        release.bundle.catalogue.categories[code] for code in release.bundle.catalogue.category[found.rows]
    ]
    assert len(found) == 40 and set(categories[:30]) == {"topic3"}
    (nobody,) = release.funnel.retriever("uploads").retrieve(
        release.funnel.anonymous([crowd.viewers[0]]), 200
    )
    assert len(nobody) == 0


def test_of_uploads_alike_those_that_promise_more_come_first():
    """Rows 3 to 6 came later: two to the viewer's taste, one across it, one against it and popular."""
    late = np.array([[1, 0, -1], [1, 0, 0.5], [0, 1, 3], [-1, 0, 9]], np.float32)
    directions = np.concatenate([np.eye(3, 2, dtype=np.float32), late[:, :2]])
    neighbours = Stacked(np.full((3, 1), -1, np.int32), np.array([[0], [0], [1], [1]], np.int32))
    likeness = Stacked(np.zeros((3, 1), np.float32), np.ones((4, 1), np.float32))
    alike = uploads.AlikeUploads(directions, late, neighbours, likeness)
    viewer = SimpleNamespace(seed=-1)
    taste = np.array([[0.8, 0.6, 1]], np.float32)
    crowd = SimpleNamespace(viewers=[viewer], tower=taste)
    (first,), (all_of_them,) = alike.retrieve(crowd, 5), alike.retrieve(crowd, 50)
    assert first.rows.tolist() == [5]
    assert all_of_them.rows.tolist() == [5, 4, 3]
    np.testing.assert_allclose(all_of_them.scores, [3.6, 1.3, -0.2], rtol=1e-6)
    (beside,) = alike.retrieve(SimpleNamespace(viewers=[SimpleNamespace(seed=0)], tower=taste), 50)
    assert beside.rows.tolist() == [3, 4]  # beside a video nothing counts but what they are about
    np.testing.assert_allclose(beside.scores, [1, 1])


def test_exploration_shows_it_until_enough_is_known(server, client):
    put(client)
    server.renewal.once()
    release = server.engine.current
    row = release.row("zebra")
    exposure = release.funnel.inventory.exposure
    assert exposure.impressions[row] == 0
    shown = [
        {
            "user_id": f"u{number}",
            "video_id": "zebra",
            "event_type": "impression",
            "timestamp": datetime.now(UTC).isoformat(),
        }
        for number in range(7)
    ]
    client.post("/api/v1/events/engagement", json=shown)
    assert exposure.impressions[row] == 7
    put(client, "other")
    server.renewal.once()
    grown = server.engine.current
    assert grown is not release
    assert grown.funnel.inventory.exposure.impressions[grown.row("zebra")] == 7


def test_a_deleted_or_blocked_one_is_gone_at_once_and_comes_back_when_freed(server, client, fan):
    put(client)
    server.renewal.once()
    assert client.send("DELETE", VIDEOS_AT + "zebra").status_code == 204
    for again in (False, True):
        if again:
            server.upkeep.once()
            server.renewal.once()
        assert found(client, "zebra") == []
        for name, asked in (
            ("home", {"user_id": fan}),
            ("new-releases", {}),
            ("related", {"video_id": "v003"}),
        ):
            assert "zebra" not in shelf(client, name, **asked)
    put(client)
    server.renewal.once()
    assert found(client, "zebra") == ["zebra"]
    put(client, status="blocked")
    assert found(client, "zebra") == []


def test_what_is_for_some_only_is_kept_from_the_others(server, client):
    put(client, "adult", title="Zebra one", age_restricted=True)
    put(client, "regional", title="Zebra two", blocked_regions=["SE"])
    put(
        client,
        "still to come",
        title="Zebra three",
        uploaded_at=(datetime.now(UTC) + timedelta(1)).isoformat(),
    )
    put(client, "for children", title="Zebra four", made_for_kids=True)
    client.send("PUT", "/api/v1/users/child", json={"kids_mode": True})
    server.renewal.once()
    assert set(found(client, "zebra", region="NO")) == {"regional", "for children"}
    assert set(found(client, "zebra", region="SE")) == {"for children"}
    assert found(client, "zebra", user_id="child") == ["for children"]


def test_its_first_watch_makes_a_taste_and_it_has_related_videos(server, client):
    put(client)
    server.renewal.once()
    related = shelf(client, "related", video_id="zebra", count=121)
    assert "zebra" not in related
    alike = [item for item in related.values() if "because_you_watched" in item["sources"]]
    assert len(alike) == 10 and {item["category"] for item in alike} == {"topic3"}
    watch(client, "newcomer's friend", "zebra")
    home = list(shelf(client, "home", user_id="newcomer's friend", count=10).values())
    assert sum(item["category"] == "topic3" for item in home) >= 5
    because = shelf(client, "because-you-watched", user_id="newcomer's friend", count=10)
    assert {item["reason"]["because_of"] for item in because.values()} == {"zebra"}


def test_a_creator_one_watches_has_a_new_video_first(server, client, known):
    watch(client, "ann", "v003")  # by c3
    put(client, creator_id="c3", category="topic0", title="By a known creator")
    server.renewal.once()
    item = shelf(client, "home", user_id="ann")["zebra"]
    assert "creators" in item["sources"]


def test_what_is_told_anew_counts(server, client):
    put(client)
    server.renewal.once()
    put(client, title="Giraffe crossing", category="topic1")
    server.renewal.once()
    assert found(client, "zebra") == [] and found(client, "giraffe") == ["zebra"]
    beside = shelf(client, "related", video_id="v001", count=120)["zebra"]
    assert beside["sources"] == ["topics", "uploads", "popular"]
    other = shelf(client, "related", video_id="v003", count=120)["zebra"]
    assert other["sources"] == ["popular"]


def test_nothing_new_changes_nothing(server, client):
    plain = server.engine.current
    server.renewal.once()
    assert server.engine.current is plain
    put(client, "v003", title="Known to the release")
    server.renewal.once()
    assert server.engine.current is plain
    put(client)
    server.renewal.once()
    grown = server.engine.current
    assert len(grown.bundle.catalogue) == len(plain.bundle.catalogue) + 1
    put(client)  # the same once more
    server.renewal.once()
    assert server.engine.current is grown


def test_the_pages_of_a_feed_do_not_repeat_it(server, client, fan):
    for number in range(30):
        put(client, f"zebra-{number}", uploaded_at=datetime.now(UTC).isoformat())
    server.renewal.once()
    seen, asked = [], {"user_id": fan, "count": 20}
    for _ in range(4):
        page = client.get(SHELF + "home", params=asked).json()
        seen += [item["video_id"] for item in page["items"] if not item["is_ad"]]
        asked["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) and any(name.startswith("zebra") for name in seen)


def test_another_process_and_one_that_starts_later_find_it_too(server, client, bundle):
    settings = Settings(home=server.settings.home, dataset="tiny")
    other = Server(settings, str(bundle.folder), open_without_keys=True)
    other.watcher.look()
    put(client)
    other.upkeep.once()
    other.renewal.once()
    theirs = Client(create_app(lambda: other))
    later = Server(settings, str(bundle.folder), open_without_keys=True)
    later.guard.refresh()
    later.watcher.look()
    at_the_start = Client(create_app(lambda: later))
    try:
        assert found(theirs, "zebra") == found(at_the_start, "zebra") == ["zebra"]
        client.send("DELETE", VIDEOS_AT + "zebra")
        other.upkeep.once()
        other.renewal.once()
        assert found(theirs, "zebra") == []
    finally:
        for each, its in ((theirs, other), (at_the_start, later)):
            each.close()
            its.engine.close()
            its.stores.close()


def test_the_thread_of_renewal_serves_it_within_30_s(server, client):
    server.renewal.start()
    put(client)
    began = monotonic()
    while not (there := found(client, "zebra")) and monotonic() - began < 30:
        sleep(0.05)
    server.renewal.stop()
    assert there == ["zebra"]


def test_the_next_release_holds_it_once(server, client, tmp_path):
    put(client)
    put(client, "other", title="Zebra of the other")
    server.renewal.once()
    told = server.stores.catalogue.get(["zebra"])
    of_its_time = pa.array([AS_OF - timedelta(hours=1)], VIDEOS.field("uploaded_at").type)
    told = told.set_column(VIDEOS.get_field_index("uploaded_at"), VIDEOS.field("uploaded_at"), of_its_time)
    whole = Catalogue.of(pa.concat_tables([tiny_catalogue().table, told]))
    server.releases.use(tiny_bundle(tmp_path, catalogue=whole, seed=1), "next")
    release = server.engine.current
    ids = release.bundle.catalogue.ids.tolist()
    assert len(ids) == len(set(ids)) == len(whole) + 1
    assert ids.index("zebra") < len(whole) <= ids.index("other")
    assert set(found(client, "zebra")) == {"zebra", "other"}


def test_a_store_that_fails_leaves_what_is_known(server, client, monkeypatch):
    put(client)
    server.renewal.once()

    def away(since, most):
        raise StoreUnavailable("catalogue is away")

    monkeypatch.setattr(server.stores.catalogue, "told", away)
    server.renewal.once()
    assert server.renewal.failing == {"new videos": "catalogue is away"}
    assert found(client, "zebra") == ["zebra"]


def test_other_parameters_keep_the_new_videos(server, client):
    put(client)
    server.renewal.once()
    server.releases.configure(server.config.default)
    assert found(client, "zebra") == ["zebra"]


def test_uploads_that_cannot_be_taken_in_leave_the_release_with_its_new_parameters(
    server, client, monkeypatch, caplog
):
    put(client)
    server.renewal.once()

    def broken(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("serving.growth._funnel", broken)
    config = FunnelConfig(limits=Limits(request_s=0.3, retrieve_s=10, rank_s=10))
    server.releases.configure(config)
    assert server.engine.current.funnel.config == config
    assert len(server.engine.home("ann", 5).slate) == 5
    assert "are not served: no memory" in caplog.text


def test_looks_with_nothing_new_read_no_more_than_the_last_moments(server, client, monkeypatch):
    put(client)
    asked, told = [], server.stores.catalogue.told

    def telling(since, most):
        asked.append(since)
        return told(since, most)

    monkeypatch.setattr(server.stores.catalogue, "told", telling)
    server.renewal.once()
    start = datetime.now(UTC)
    server.renewal.once()
    assert start - timedelta(seconds=1) < asked[1] + uploads.OVERLAP <= start


def test_what_the_release_knows_pushes_no_upload_out(server, client, monkeypatch, caplog):
    monkeypatch.setattr(uploads, "MOST", 3)
    put(client)
    server.renewal.once()
    for name in ("v001", "v002", "v003", "v004"):
        put(client, name, title="told again")
        server.renewal.once()
    assert found(client, "zebra") == ["zebra"]
    assert "came after the release" not in caplog.text


def test_of_too_many_the_newest_writes_are_served(server, client, monkeypatch, caplog):
    monkeypatch.setattr(uploads, "MOST", 2)
    for name in ("first", "second", "third"):
        put(client, name)
        server.renewal.once()
    assert set(found(client, "zebra")) == {"second", "third"}
    assert "3 videos came after the release: the 2 newest are served" in caplog.text


def test_a_log_of_years_ago_has_uploads_of_its_own_time(server, client, bundle):
    """The tiny bundle's log ends long before it was made, so a video told of now is of the release's now."""
    clock = server.engine.current.clock
    assert clock.offset_us < 0
    put(client)
    server.renewal.once()
    release = server.engine.current
    at = release.bundle.catalogue.uploaded_at[release.row("zebra")]
    now = release.clock.now().timestamp() * 1e6
    assert now - 60e6 < at <= now
    assert VIDEOS.equals(release.bundle.catalogue.table.schema)
