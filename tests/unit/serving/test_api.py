"""The API over the whole funnel on the tiny bundle."""

from datetime import UTC, datetime, timedelta

import pytest

from serving.api import create_app
from serving.breakers import FAILURES
from tests.support.client import Client
from upnext.contracts import Recommendation
from upnext.errors import CorruptData, ReleaseError, StoreUnavailable

HOME, RELATED = "/api/v1/recommendations/home", "/api/v1/recommendations/related"
TRENDING, EVENTS = "/api/v1/recommendations/trending", "/api/v1/events/engagement"


def event(video="v003", kind="watch", **more):
    made = {"user_id": "ann", "video_id": video, "event_type": kind, "timestamp": now()} | more
    return made | ({"watch_duration_ms": 60_000} if kind == "watch" else {}) | more


def now(**shift):
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


def ids(answer):
    return [item["video_id"] for item in answer.json()["items"]]


def problem_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["detail"]
    return body


@pytest.mark.parametrize(
    ("path", "count"),
    [(HOME, 30), (HOME + "?user_id=nobody", 30), (RELATED + "?video_id=v010", 20), (TRENDING, 20)],
)
def test_every_shelf_answers_as_documented(client, path, count):
    answer = client.get(path)
    assert answer.status_code == 200
    slate = Recommendation.model_validate(answer.json())
    assert len(slate.items) == count
    assert [item.position for item in slate.items] == list(range(count))
    assert len({item.video_id for item in slate.items}) == count
    assert all(item.sources and item.reason.text and item.title for item in slate.items)
    assert slate.debug is None and slate.items[0].heads is None


@pytest.mark.parametrize("count", [1, 7, 120, 200])
def test_count_is_kept_as_far_as_the_catalogue_goes(client, count):
    assert len(ids(client.get(HOME, params={"count": count}))) == min(count, 120)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (HOME + "?count=0", "query.count"),
        (HOME + "?count=201", "query.count"),
        (HOME + "?count=many", "query.count"),
        (HOME + "?user_id=", "query.user_id"),
        (RELATED, "query.video_id"),
        (TRENDING + "?region=" + "x" * 65, "query.region"),
    ],
)
def test_a_wrong_parameter_is_named(client, path, field):
    body = problem_of(client.get(path), 422)
    assert body["errors"][0]["field"] == field
    assert body["errors"][0]["reason"]


def test_an_unknown_video_is_not_found(client):
    body = problem_of(client.get(RELATED, params={"video_id": "nothing"}), 404)
    assert "'nothing'" in body["detail"]


def test_an_unknown_path_is_a_problem_too(client):
    assert "GET /api/v2" in problem_of(client.get("/api/v2"), 404)["detail"]
    problem_of(client.send("DELETE", HOME), 405)


def test_related_leaves_the_video_itself_out_and_stays_on_its_topic(client):
    answer = client.get(RELATED, params={"video_id": "v012", "count": 10})
    assert "v012" not in ids(answer)
    reasons = [item["reason"] for item in answer.json()["items"]]
    assert all(reason["because_of"] == "v012" for reason in reasons if reason["code"] == "related")
    assert sum(reason["code"] == "related" for reason in reasons) >= 5


def test_an_event_changes_the_next_feed(client):
    before = client.get(HOME, params={"user_id": "ann"})
    answer = client.post(EVENTS, json=[event("v003"), event("v009"), event("v003", "like")])
    assert answer.json()["accepted"] == 3 and answer.json()["applied"] is True
    after = client.get(HOME, params={"user_id": "ann", "debug": True})
    assert ids(before) != ids(after)
    assert after.json()["debug"]["viewer"]["history"] == 2
    items = after.json()["items"]
    watched = [item["reason"] for item in items if item["reason"]["code"] == "because_you_watched"]
    assert watched and {reason["because_of"] for reason in watched} <= {"v003", "v009"}
    topic = sum(item["category"] == "topic3" for item in items)
    assert topic > sum(item["category"] == "topic3" for item in before.json()["items"])
    assert not {"v003", "v009"} & set(ids(after)[:20])


def test_what_was_turned_down_does_not_come_back(client):
    first = ids(client.get(HOME, params={"user_id": "ann"}))[0]
    client.post(EVENTS, json=event(first, "not_interested"))
    assert first not in ids(client.get(HOME, params={"user_id": "ann", "count": 200}))


def test_a_session_without_a_user_has_a_feed_of_its_own(client):
    before = client.get(HOME, params={"session_id": "s9"})
    client.post(EVENTS, json=event("v003", user_id="s9", session_id="s9"))
    assert ids(client.get(HOME, params={"session_id": "s9"})) != ids(before)


def test_a_search_is_felt(client):
    client.post(EVENTS, json={"user_id": "ann", "event_type": "search", "query": "topic5"})
    items = client.get(HOME, params={"user_id": "ann"}).json()["items"]
    found = [item for item in items if item["reason"]["code"] == "search"]
    assert found and all(item["category"] == "topic5" for item in found)
    assert {item["reason"]["because_of"] for item in found} == {"topic5"}


def test_a_repeated_event_counts_once(client, server):
    batch = [event(event_id="e1"), event(event_id="e2")]
    assert client.post(EVENTS, json=batch).json()["accepted"] == 2
    again = client.post(EVENTS, json=[*batch, event(event_id="e1")]).json()
    assert (again["accepted"], again["repeated"]) == (0, 3)
    assert server.stores.event_log.read().events.num_rows == 2


def test_the_good_events_of_a_call_are_taken_and_the_others_named(client):
    bad = event(kind="watch", watch_duration_ms=-1, event_id="bad")
    answer = client.post(EVENTS, json=[event(), bad, event(timestamp=now(days=7))])
    assert answer.status_code == 200 and answer.json()["accepted"] == 1
    refused = answer.json()["refused"]
    assert [(each["index"], each["errors"][0]["field"]) for each in refused] == [
        (1, "1.watch_duration_ms"),
        (2, "2.timestamp"),
    ]
    assert refused[0]["event_id"] == "bad"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[]", 422),
        (b"3", 422),
        (b"{}", 422),
        (b"[" + b"{}," * 1000 + b"{}]", 422),
        (b'"' + b"x" * (5 << 20) + b'"', 413),
    ],
)
def test_a_body_that_is_no_event_is_a_problem(client, body, status):
    problem_of(client.post(EVENTS, content=body), status)


def test_answers_are_logged_as_impressions(client, server):
    shown = client.get(HOME, params={"user_id": "ann", "count": 5, "session_id": "s1", "region": "SE"})
    server.impressions.flush()
    logged = server.stores.event_log.read().events.to_pylist()
    assert [event["video_id"] for event in logged] == ids(shown)
    assert [event["position"] for event in logged] == list(range(5))
    assert {(e["request_id"], e["surface"], e["session_id"], e["region"]) for e in logged} == {
        (shown.json()["request_id"], "home", "s1", "SE")
    }
    assert all(0 < event["propensity"] <= 1 for event in logged)


def test_debug_tells_timings_counts_and_heads(client):
    body = client.get(HOME, params={"user_id": "ann", "debug": True}).json()
    assert {"viewer", "retrieve", "rank", "post_rank"} <= set(body["debug"]["timings_ms"])
    assert body["debug"]["candidates"]["pool"] == 120
    assert body["debug"]["skipped"] == {}
    assert set(body["items"][0]["heads"]) >= {"click", "long_view"}


def test_the_region_asked_for_is_the_one_that_trends(client):
    reasons = {
        item["reason"]["text"] for item in client.get(TRENDING, params={"region": "SE"}).json()["items"]
    }
    assert reasons == {"Popular in SE"}
    unheard = client.get(TRENDING, params={"region": "??"}).json()["items"]
    assert {item["reason"]["text"] for item in unheard} == {"Trending now"}


def figure(client, name):
    """One figure of /metrics, 0 before it was ever counted."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def test_health_and_metrics(client, bundle):
    answered = 'upnext_request_seconds_count{surface="home"}'
    statuses = [f'upnext_requests_total{{route="{HOME}",status="{status}"}}' for status in (200, 422)]

    def ask():
        feed = client.get(HOME)
        assert feed.status_code == 200, feed.text
        client.get(HOME + "?count=0")

    ask()  # Where BentoML was loaded, Prometheus keeps figures by process: a new one goes on from the last.
    before = [figure(client, name) for name in (answered, *statuses)]
    ask()
    after = [figure(client, name) for name in (answered, *statuses)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1.0, 1.0, 1.0]
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["release"], ready["videos"]) == ("ready", bundle.folder.name, 120)


def test_before_a_release_is_loaded_the_service_says_so(client, server):
    server.releases.held = None
    for path in (HOME, "/readyz"):
        answer = client.get(path)
        problem_of(answer, 503)
        assert answer.headers["retry-after"]
    assert client.get("/healthz").status_code == 200
    assert client.post(EVENTS, json=event()).json()["accepted"] == 1


def test_a_store_that_is_broken_is_no_fault_of_the_client(client, server, monkeypatch):
    def broken(ids):
        raise CorruptData("platform.db is no database")

    monkeypatch.setattr(server.stores.catalogue, "get", broken)
    answer = client.get("/api/v1/videos/v001")
    assert "no database" in problem_of(answer, 503)["detail"] and answer.headers["retry-after"]


@pytest.mark.parametrize("error", [StoreUnavailable, CorruptData])
def test_an_event_is_accepted_while_the_watch_history_fails(client, server, monkeypatch, error):
    def away(events):
        raise error("the watch history is away")

    with monkeypatch.context() as patched:
        patched.setattr(server.stores.history, "add", away)
        answer = client.post(EVENTS, json=event()).json()
    assert (answer["accepted"], answer["applied"]) == (1, False)
    assert server.live.catch_up(30)
    assert (
        client.get(HOME, params={"user_id": "ann", "debug": True}).json()["debug"]["viewer"]["history"] == 1
    )


def test_a_store_that_fails_is_left_alone_and_senders_are_told_when_to_try_again(client, server, monkeypatch):
    asked = []

    def away(*args):
        asked.append(args)
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(server.stores.event_log, "append", away)
    monkeypatch.setattr(server.stores.catalogue, "get", away)
    for path in (EVENTS, "/api/v1/videos/v003"):
        asked.clear()
        for _ in range(FAILURES + 2):
            answer = client.post(path, json=event()) if path == EVENTS else client.get(path)
            problem_of(answer, 503)
            assert answer.headers["retry-after"]
        assert len(asked) == FAILURES
    assert "left alone" in answer.json()["detail"]
    assert client.get(HOME, params={"user_id": "ann"}).status_code == 200


@pytest.mark.parametrize("path", [HOME, "/metrics"])
def test_while_the_service_starts_it_says_so(path):
    def starting():
        raise ReleaseError("the service is starting")

    client = Client(create_app(starting))
    problem_of(client.get(path), 503)
    client.close()


def test_the_contract_is_published(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {HOME, RELATED, TRENDING, EVENTS, "/healthz", "/readyz", "/metrics"} <= set(paths)
    assert client.get("/docs").status_code == 200
