"""Cursors: opaque, signed, bounded; pages that repeat nothing."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import numpy as np
import pytest

from serving.paging import FIRST, LONGEST, MOST, TTL_S, MarkIndex, Pager, marks_of
from tests.support.bundles import tiny_bundle
from upnext.errors import InvalidRequest

HOME, SEARCH = "/api/v1/recommendations/home", "/api/v1/search"
FEED = ("home", "ann", None, None, None)


@pytest.fixture
def clock():
    return [1_000_000.0]


@pytest.fixture
def pager(clock):
    return Pager(b"k" * 32, lambda: clock[0])


def test_a_cursor_brings_back_what_was_shown(pager):
    first = pager.write(FIRST, ["v1", "v2"], FEED)
    page = pager.read(first, FEED)
    assert page.shown.tolist() == marks_of(["v1", "v2"]).tolist()
    second = pager.read(pager.write(page, ["ö"], FEED), FEED)
    assert second.shown.tolist() == marks_of(["v1", "v2", "ö"]).tolist()
    assert pager.read(first, FEED).seed == page.seed != second.seed


def test_a_changed_foreign_or_old_cursor_is_refused(pager, clock):
    cursor = pager.write(FIRST, ["v1"], FEED)
    raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(InvalidRequest, match="none that this service gave"):
            pager.read(urlsafe_b64encode(changed).decode().rstrip("="), FEED)
    for text in ("", "x", "öö", cursor[:-4], cursor + "AAAA", "=" * 40, "A" * LONGEST):
        with pytest.raises(InvalidRequest, match="none that this service gave"):
            pager.read(text, FEED)
    with pytest.raises(InvalidRequest, match="none that this service gave"):
        Pager(b"other" * 8, lambda: clock[0]).read(cursor, FEED)
    with pytest.raises(InvalidRequest, match="another feed"):
        pager.read(cursor, ("home", "bob", None, None, None))
    clock[0] += TTL_S + 1
    with pytest.raises(InvalidRequest, match="expired"):
        pager.read(cursor, FEED)


def test_a_cursor_is_bounded_and_ends(pager):
    almost = pager.write(FIRST, [f"v{place}" for place in range(MOST - 1)], FEED)
    assert almost is not None and len(almost) <= LONGEST
    assert pager.write(pager.read(almost, FEED), ["last"], FEED) is None


def test_marks_find_their_rows():
    ids = [f"video-{place}" for place in range(5_000)]
    index = MarkIndex.of(ids)
    found = index.find(marks_of(ids[100:200]))
    assert set(range(100, 200)) <= set(found.tolist())
    assert len(found) < 110, "hardly any other shares a mark"
    assert index.find(np.empty(0, np.uint32)).tolist() == []


def test_all_rows_that_share_a_mark_are_found():
    index = MarkIndex(np.asarray([1, 4, 4, 4, 9], np.uint32), np.asarray([3, 0, 2, 4, 1], np.int32))
    assert index.find(np.asarray([9, 4, 5], np.uint32)).tolist() == [1, 0, 2, 4]


def pages(client, path, **params):
    """The ids of every page until there is none."""
    found, cursor = [], None
    while True:
        answer = client.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found.append([item["video_id"] for item in body["items"]])
        if (cursor := body["next_cursor"]) is None:
            return found


@pytest.mark.parametrize("who", [{"user_id": "ann"}, {"session_id": "s1"}, {}])
def test_pages_go_through_the_catalogue_without_repeats(client, who):
    found = pages(client, HOME, count=25, **who)
    assert [len(page) for page in found] == [25, 25, 25, 25, 20]
    assert len({video for page in found for video in page}) == 120


def test_a_page_asked_for_again_is_the_same(client):
    cursor = client.get(HOME, params={"count": 20}).json()["next_cursor"]
    once, again = (client.get(HOME, params={"count": 20, "cursor": cursor}).json() for _ in range(2))
    assert [item["video_id"] for item in once["items"]] == [item["video_id"] for item in again["items"]]


def test_pages_go_on_over_a_release_swap(client, server, tmp_path):
    first = client.get(HOME, params={"count": 40, "user_id": "ann"}).json()
    other = tiny_bundle(tmp_path, seed=3)
    server.releases.use(other, "next")
    second = client.get(HOME, params={"count": 40, "user_id": "ann", "cursor": first["next_cursor"]}).json()
    assert (first["release"], second["release"]) == (server.watcher.serving, "next")
    shown = [item["video_id"] for page in (first, second) for item in page["items"]]
    assert len(shown) == len(set(shown)) == 80


def test_a_cursor_of_another_feed_is_a_problem(client):
    cursor = client.get(HOME, params={"user_id": "ann"}).json()["next_cursor"]
    for path, params in ((HOME, {"user_id": "bob"}), (SEARCH, {"user_id": "ann", "q": "topic1"})):
        answer = client.get(path, params=params | {"cursor": cursor})
        assert answer.status_code == 422 and "another feed" in answer.json()["detail"]


def test_what_is_excluded_does_not_come(client):
    first = [item["video_id"] for item in client.get(HOME, params={"count": 5}).json()["items"]]
    params = [("count", 200), *(("exclude", video) for video in first), ("exclude", "nobody knows it")]
    left = [item["video_id"] for item in client.get(HOME, params=params).json()["items"]]
    assert len(left) == 115 and not set(first) & set(left)
