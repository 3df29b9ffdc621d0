"""Shelves beside the feed, and search."""

import pytest

from tests.support.bundles import tiny_bundle
from tests.support.videos import catalogue_of
from tests.unit.serving.test_api import event, ids, problem_of

SHELVES = "/api/v1/recommendations"
SEARCH, EVENTS = "/api/v1/search", "/api/v1/events/engagement"


def codes(answer):
    return {item["reason"]["code"] for item in answer.json()["items"]}


def watch(client, *videos, **who):
    client.post(EVENTS, json=[event(video, **who) for video in videos])


def test_an_end_screen_is_near_the_video_and_to_the_viewers_taste(client):
    watch(client, "v004", "v010", "v016")
    params = {"video_id": "v003", "user_id": "ann"}
    answer = client.get(f"{SHELVES}/end-screen", params=params).json()
    assert len(answer["items"]) == 12 and answer["about"] == "v003"
    assert "v003" not in [item["video_id"] for item in answer["items"]]
    sources = {source for item in answer["items"] for source in item["sources"]}
    assert sources & {"als", "two_tower"} and sources & {"because_you_watched", "creators", "topics"}
    problem_of(client.get(f"{SHELVES}/end-screen", params={"video_id": "nothing"}), 404)


def test_because_you_watched_is_about_a_video_of_the_past(client):
    empty = client.get(f"{SHELVES}/because-you-watched", params={"user_id": "ann"}).json()
    assert (empty["items"], empty["about"], empty["next_cursor"]) == ([], None, None)
    watch(client, "v004")
    answer = client.get(f"{SHELVES}/because-you-watched", params={"user_id": "ann"})
    assert answer.json()["about"] == "v004" and codes(answer) == {"because_you_watched"}
    assert {item["reason"]["because_of"] for item in answer.json()["items"]} == {"v004"}
    assert {item["category"] for item in answer.json()["items"]} == {"topic4"}
    named = client.get(f"{SHELVES}/because-you-watched", params={"video_id": "v011"})
    assert named.json()["about"] == "v011"


def test_trending_keeps_the_rules_of_the_viewers_profile(client, server, tmp_path):
    """Everybody's list, less what kids mode and the blocks of a region rule out; a region asked for wins."""
    for_kids = [number % 2 == 0 for number in range(40)]
    blocked = [["SE"] if number < 30 else [] for number in range(40)]
    catalogue = catalogue_of(40, made_for_kids=for_kids, blocked_regions=blocked)
    server.releases.use(tiny_bundle(tmp_path, catalogue=catalogue), "kids")
    client.send("PUT", "/api/v1/users/kim", json={"kids_mode": True})
    client.send("PUT", "/api/v1/users/sven", json={"region": "SE"})

    def trending(**params):
        return ids(client.get(f"{SHELVES}/trending", params={"count": 40, **params}))

    everybodys = trending()
    assert len(everybodys) == 40 and trending(user_id="nobody") == everybodys
    assert trending(user_id="kim") == [each for each in everybodys if int(each[1:]) % 2 == 0]
    assert trending(user_id="sven") == [each for each in everybodys if int(each[1:]) >= 30]
    assert trending(user_id="sven", region="NO") == trending(region="NO") != everybodys


def test_what_trending_showed_is_logged_for_who_saw_it(client, server):
    client.get(f"{SHELVES}/trending", params={"user_id": "ann", "session_id": "s1", "count": 2})
    server.impressions.flush()
    rows = server.stores.event_log.read().events.to_pylist()
    assert [(row["user_id"], row["session_id"], row["surface"]) for row in rows] == [
        ("ann", "s1", "trending")
    ] * 2


def test_a_topic_shelf_holds_that_topic_alone(client):
    answer = client.get(f"{SHELVES}/topic/topic2", params={"count": 50, "user_id": "ann"})
    items = answer.json()["items"]
    assert len(items) == 20 and {item["category"] for item in items} == {"topic2"}
    assert codes(answer) == {"topic"} and {item["reason"]["text"] for item in items} == {"In topic2"}
    assert "'knitting'" in problem_of(client.get(f"{SHELVES}/topic/knitting"), 404)["detail"]


def test_new_releases_are_the_newest_in_each_viewers_order(client):
    answer = client.get(f"{SHELVES}/new-releases", params={"count": 120})
    assert len(ids(answer)) == 120 and codes(answer) == {"new"}
    first = ids(client.get(f"{SHELVES}/new-releases", params={"count": 20}))
    watch(client, "v004", "v010", "v016")
    assert first != ids(client.get(f"{SHELVES}/new-releases", params={"count": 20, "user_id": "ann"}))


@pytest.mark.parametrize(
    ("words", "found"), [("topic3", 20), ("Clip 17", 1), ("CLIP topic5", 120), ("zzz", 0)]
)
def test_a_search_finds_what_matches_and_nothing_else(client, words, found):
    answer = client.get(SEARCH, params={"q": words, "count": 200})
    items = answer.json()["items"]
    matching = [item for item in items if set(words.lower().split()) & set(item["title"].lower().split())]
    assert matching == items and len(items) >= found
    assert answer.json()["about"] == words and answer.json()["surface"] == "search"
    assert codes(answer) <= {"search"}


def test_the_best_match_is_first_whatever_the_viewer_likes(client):
    watch(client, "v004", "v010", "v016")
    assert ids(client.get(SEARCH, params={"q": "clip 17", "user_id": "ann"}))[0] == "v017"


def test_among_equal_matches_the_viewers_taste_decides(client):
    watch(client, "v004", "v010", "v016")
    items = client.get(SEARCH, params={"q": "clip", "user_id": "ann", "count": 10}).json()["items"]
    theirs = sum(item["category"] == "topic4" for item in items)
    stranger = client.get(SEARCH, params={"q": "clip", "count": 10}).json()["items"]
    assert theirs > sum(item["category"] == "topic4" for item in stranger)


def test_what_was_seen_can_be_found_again(client):
    watch(client, "v017")
    assert ids(client.get(SEARCH, params={"q": "clip 17", "user_id": "ann"}))[0] == "v017"


@pytest.mark.parametrize("who", [{"user_id": "ann"}, {"session_id": "s1"}])
def test_a_search_becomes_a_signal_once(client, server, who):
    first = client.get(SEARCH, params={"q": "topic5", "count": 5, "device": "tv"} | who).json()
    client.get(SEARCH, params={"q": "topic5", "count": 5, "cursor": first["next_cursor"]} | who)
    logged = [
        row for row in server.stores.event_log.read().events.to_pylist() if row["event_type"] == "search"
    ]
    viewer = next(iter(who.values()))
    assert [(row["user_id"], row["query"], row["device"]) for row in logged] == [(viewer, "topic5", "tv")]
    feed = client.get(f"{SHELVES}/home", params=who)
    assert "search" in codes(feed)


def test_nobodys_search_is_nobodys_signal(client, server):
    client.get(SEARCH, params={"q": "topic5"})
    assert not server.stores.event_log.read().events.num_rows


def test_a_session_alone_is_enough_for_events_and_feeds(client):
    before = ids(client.get(f"{SHELVES}/home", params={"session_id": "s9"}))
    taken = client.post(EVENTS, json={"session_id": "s9", "video_id": "v003", "event_type": "like"})
    assert taken.json()["applied"] is True
    assert ids(client.get(f"{SHELVES}/home", params={"session_id": "s9"})) != before
    assert problem_of(client.post(EVENTS, json={"video_id": "v", "event_type": "like"}), 422)


def test_a_misspelt_parameter_is_told(client):
    body = problem_of(client.get(f"{SHELVES}/home?cuont=3"), 422)
    assert body["errors"][0]["field"] == "query.cuont"
