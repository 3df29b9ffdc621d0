"""Videos and users over the API: written, merged, read, barred at once."""

import numpy as np
import pytest

from serving.standing import Barred, Standing
from upnext.stores import connect

HOME = "/api/v1/recommendations/home"
VIDEOS, USERS = "/api/v1/videos", "/api/v1/users"


def ids(answer):
    return [item["video_id"] for item in answer.json()["items"]]


def everything(client, **params):
    return ids(client.get(HOME, params={"count": 200} | params))


def fields_of(answer, status=422):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]


def test_a_video_is_written_read_replaced_and_deleted(client):
    path = f"{VIDEOS}/new ö/1"
    assert client.get(path).status_code == 404
    made = client.send(
        "PUT", path, json={"title": "One", "tags": ["a"], "uploaded_at": "2026-01-01T00:00:00Z"}
    )
    assert made.status_code == 201
    assert client.get(path).json() == made.json()
    assert made.json()["video_id"] == "new ö/1" and made.json()["status"] == "active"
    again = client.send("PUT", path, json={"title": "Two"})
    assert again.status_code == 200
    assert (again.json()["tags"], again.json()["uploaded_at"]) == ([], "2026-01-01T00:00:00Z")
    assert client.send("DELETE", path).status_code == 204
    assert client.get(path).status_code == client.send("DELETE", path).status_code == 404
    assert client.send("PUT", path, json={}).status_code == 201, "a deleted video may come back"


def test_a_patch_merges_as_rfc_7396_says(client):
    path = f"{USERS}/ann"
    assert client.send("PATCH", path, json={"region": "SE"}).status_code == 404
    client.send("PUT", path, json={"region": "SE", "topics": ["a", "b"], "device": "tv"})
    merged = client.send("PATCH", path, json={"region": None, "topics": ["c"], "language": "sv"}).json()
    assert [merged[name] for name in ("region", "topics", "language", "device")] == [None, ["c"], "sv", "tv"]
    assert client.get(path).json() == merged
    assert client.send("PATCH", path, json={}).json() == merged


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user_id": "bob"}, "user_id"),
        ({"colour": "red"}, "colour"),
        ({"topics": "a"}, "topics"),
        ({"region": ""}, "region"),
        ({"created_at": 5}, "created_at"),
        ([], "body"),
        ("SE", "body"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_wrong_document_is_named_and_changes_nothing(client, method, body, field):
    path = f"{USERS}/ann"
    before = client.send("PUT", path, json={"region": "SE"}).json()
    assert fields_of(client.send(method, path, json=body)) == [field]
    assert client.get(path).json() == before


def test_a_profile_is_felt_in_the_next_feed(client):
    client.send("PUT", f"{USERS}/ann", json={"topics": ["topic4"]})
    items = client.get(HOME, params={"user_id": "ann"}).json()["items"]
    assert "topic_you_chose" in {item["reason"]["code"] for item in items}


def test_bulk_takes_the_good_and_names_the_others(client):
    entries = [{"video_id": "a"}, {"video_id": ""}, 3, {"title": "no id"}, {"video_id": "b", "status": "odd"}]
    answer = client.post(f"{VIDEOS}:bulk", json=[*entries, {"video_id": "a", "title": "the last"}])
    body = answer.json()
    assert body["written"] == 2
    assert [(each["index"], each["id"], each["errors"][0]["field"]) for each in body["refused"]] == [
        (1, "", "1.video_id"),
        (2, None, "2"),
        (3, None, "3.video_id"),
        (4, "b", "4.status"),
    ]
    assert client.get(f"{VIDEOS}/a").json()["title"] == "the last"
    assert client.get(f"{VIDEOS}/b").status_code == 404
    users = client.post(f"{USERS}:bulk", json=[{"user_id": f"u{place}"} for place in range(1_000)])
    assert users.json() == {"written": 1_000, "refused": []}


def test_bulk_reads_the_catalogue_once_and_keeps_the_first_times(client, server, monkeypatch):
    client.send("PUT", f"{VIDEOS}/a", json={"uploaded_at": "2026-01-01T00:00:00Z"})
    get, asked = server.stores.catalogue.get, []

    def counted(ids):
        asked.append(list(ids))
        return get(ids)

    monkeypatch.setattr(server.stores.catalogue, "get", counted)
    entries = [
        {"video_id": "a"},
        {"video_id": "b"},
        {"video_id": 3},
        {},
        "c",
        {"video_id": "a", "title": "A"},
    ]
    answer = client.post(f"{VIDEOS}:bulk", json=entries).json()
    assert (answer["written"], [each["index"] for each in answer["refused"]]) == (3, [2, 3, 4])
    assert asked == [["a", "b"]]
    made = client.get(f"{VIDEOS}/a").json()
    assert (made["title"], made["uploaded_at"]) == ("A", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("body", [[], {}, [{"video_id": "v"}] * 1_001, ["x"]])
def test_a_bulk_call_of_nothing_good_is_a_problem(client, body):
    fields_of(client.post(f"{VIDEOS}:bulk", json=body))


def test_a_blocked_video_goes_at_once_and_comes_back_when_freed(client):
    client.send("PUT", f"{VIDEOS}/v003", json={"status": "blocked"})
    assert "v003" not in everything(client)
    related = client.get("/api/v1/recommendations/related", params={"video_id": "v009", "count": 200})
    assert "v003" not in ids(related)
    assert "v003" not in ids(client.get("/api/v1/search", params={"q": "topic3", "count": 200}))
    client.send("PATCH", f"{VIDEOS}/v003", json={"status": "active"})
    assert "v003" in everything(client)
    client.send("PATCH", f"{VIDEOS}/v003", json={"age_restricted": True})
    assert "v003" not in everything(client)
    client.send("PATCH", f"{VIDEOS}/v003", json={"age_restricted": None})
    client.send("DELETE", f"{VIDEOS}/v003")
    assert "v003" not in everything(client)


def test_what_another_process_barred_is_barred_with_the_next_poll(client, server):
    with connect(server.settings) as stores:
        other = Barred(stores.catalogue)
        from serving.resources import videos

        documents = videos(stores.catalogue, other)
        documents.put("v005", {"status": "blocked"})
        server.upkeep.once()
        assert "v005" not in everything(client)
        documents.put("v005", {"status": "active"})
        server.upkeep.once()
        assert "v005" in everything(client)


def test_what_was_barred_stays_so_in_the_next_release(client, server, bundle):
    client.send("PUT", f"{VIDEOS}/v007", json={"status": "deleted"})
    server.releases.use(bundle, "next")
    assert "v007" not in everything(client)


def test_writes_during_a_poll_are_not_lost_and_do_not_hold_it_up(bundle, server):
    """The poll reads the store before the writes, and ends after them, however steadily they come."""
    standing = Standing.of(bundle.catalogue, np.zeros(len(bundle.catalogue), bool))
    states = {"v001": (False, False), "v002": (True, False)}
    server.videos.put("v002", {"status": "blocked"})

    class Slow:
        reads = 0

        def barred(self):
            self.reads += 1
            assert self.reads <= 2, "once a poll"
            found = server.stores.catalogue.barred()
            if self.reads == 1:
                server.videos.put("v001", {"status": "blocked"})
                server.videos.put("v002", {})
            barred.note(states)
            return found

    barred = Barred(Slow())
    barred.attach(standing)
    for reads in (1, 2):
        barred.refresh()
        active = standing.active[bundle.catalogue.rows(list(states))]
        assert (barred.store.reads, active.tolist()) == (reads, [False, True])
        assert barred.held == {"v001": (False, False)}


def test_a_video_that_the_release_itself_bars_is_not_freed(bundle):
    standing = Standing.of(bundle.catalogue, np.zeros(len(bundle.catalogue), bool))
    standing.catalogue.active[4] = False
    try:
        standing.mark({standing.catalogue.ids[4]: (True, False)})
        assert not standing.active[4]
    finally:
        standing.catalogue.active[4] = True


def test_writes_behind_one_that_hangs_are_told_to_come_again(client, server, monkeypatch):
    monkeypatch.setattr("serving.resources.PATIENCE_S", 0.01)
    with server.videos._lock:  # an earlier write's, which does not end
        answer = client.send("PUT", "/api/v1/videos/v9", json={"title": "late"})
    assert answer.status_code == 503 and "earlier writes of videos take too long" in answer.text
    assert client.send("PUT", "/api/v1/videos/v9", json={"title": "late"}).status_code == 201
