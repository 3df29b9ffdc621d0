"""Ads: where they stand, who gives them, and that no feed waits for them."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import documents
from serving.ads import Ad, AdRequest, HouseAds, HttpAds, open_ads, places, wanted
from serving.rules import AdRules
from upnext.errors import ConfigError, CorruptData, StoreUnavailable
from upnext.settings import Settings

RULES = AdRules(first=3, every=4, most=3)
ADS = [{"ad_id": f"ad{i}", "title": f"Ad {i}", "unheard_of": 1} for i in range(3)]
REQUEST = AdRequest("r1", "home", 2, "SE", None)


@contextmanager
def ad_server(body=b"[]", status=200):
    """A real server on loopback; ``asked`` gets the paths, and nothing is answered until ``open_`` is set."""
    asked, open_ = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            open_.wait(10)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ads", asked, open_
    finally:
        open_.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("restricted", "ads", "expected"),
    [
        ("..........", 0, []),
        ("..........", 1, [3]),
        ("..........", 2, [3, 8]),  # three videos, an ad, four videos, an ad
        ("..........", 3, [3, 8]),  # no third: it would follow eleven
        ("...x......", 1, [5]),  # beside the third or the fourth it would stand beside the restricted one
        ("..x.......", 1, [4]),
        ("...xxxxxxx", 1, []),
        ("..", 1, []),
    ],
)
def test_ads_stand_by_the_policy_and_never_beside_what_is_restricted(restricted, ads, expected):
    assert places(np.asarray([mark == "x" for mark in restricted], bool), ads, RULES) == expected


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.integers(1, 6), st.integers(1, 6))
def test_no_ad_is_beside_restricted_content_or_too_close(marks, ads, first, every):
    rules = AdRules(first=first, every=every)
    restricted = np.asarray(marks, bool)
    found = places(restricted, ads, rules)
    videos = iter(marks)
    final = ["ad" if at in found else next(videos) for at in range(len(marks) + len(found))]
    assert len(found) <= ads
    for at in found:
        assert final[at - 1] is False and final[at + 1] is False
    before = [-1, *found]
    assert all(b - a > (first if a < 0 else every) - (a < 0) for a, b in zip(before, found, strict=False))


@pytest.mark.parametrize(
    ("count", "surface", "kids", "expected"),
    [
        (30, "home", False, 3),
        (3, "home", False, 0),
        (4, "home", False, 1),
        (8, "home", False, 2),
        (30, "related", False, 0),
        (30, "home", True, 0),
    ],
)
def test_only_some_surfaces_have_ads_and_kids_see_none(count, surface, kids, expected):
    assert wanted(count, surface, kids, RULES) == expected


def test_house_ads_are_taken_in_turn(tmp_path):
    file = tmp_path / "ads.json"
    assert HouseAds.read(file).ads(REQUEST) == []
    file.write_text(json.dumps(ADS))
    house = HouseAds.read(file)
    shown = {tuple(ad.ad_id for ad in house.ads(AdRequest(f"r{i}", "home", 2))) for i in range(9)}
    assert shown == {("ad0", "ad1"), ("ad1", "ad2"), ("ad2", "ad0")}
    file.write_text('[{"title": "No id"}]')
    with pytest.raises(CorruptData, match=r"ads\.json is no list of ads: Field required"):
        HouseAds.read(file)


def test_an_ad_server_is_told_the_moment_and_not_the_viewer():
    with ad_server(json.dumps(ADS).encode()) as (url, asked, open_):
        open_.set()
        client = HttpAds(url, deadline_s=5)
        assert [ad.ad_id for ad in client.ads(REQUEST)] == ["ad0", "ad1"]
        client.close()
    assert asked == ["/ads?request_id=r1&surface=home&count=2&region=SE"]


def test_what_the_address_itself_asks_is_asked_too():
    with ad_server() as (url, asked, open_):
        open_.set()
        client = HttpAds(f"{url}?key=K123", deadline_s=5)
        client.ads(REQUEST)
        client.close()
    assert asked == ["/ads?key=K123&request_id=r1&surface=home&count=2&region=SE"]


def test_an_error_names_the_host_and_the_status_and_no_secret():
    with ad_server(status=403) as (url, _, open_):
        open_.set()
        client = HttpAds(url.replace("http://", "http://me:hunter2@") + "?key=K123", deadline_s=5)
        with pytest.raises(StoreUnavailable) as told:
            client.ads(REQUEST)
        client.close()
    assert str(told.value) == f"the ad server at {url.removesuffix('/ads')}: HTTPStatusError 403"


@pytest.mark.parametrize("body", [b"<html>", b'{"ad_id": "a"}', b"[{}]", b"[" + b" " * (65 << 10) + b"]"])
def test_an_answer_that_is_no_list_of_ads_is_an_error(body):
    with ad_server(body) as (url, _, open_):
        open_.set()
        client = HttpAds(url, deadline_s=5)
        with pytest.raises(StoreUnavailable, match="ad server at http://127"):
            client.ads(REQUEST)
        client.close()


def test_a_feed_does_not_wait_for_a_slow_ad_server(server):
    with ad_server() as (url, asked, _):
        server.engine._ad_server = HttpAds(url)
        answer = server.engine.home("ann", 30)
        assert len(answer.slate) == 30 and not answer.ads
        assert answer.trace.skipped["ads"].split(":")[0] in {"late", "error"}
        assert len(asked) == 1


def test_ads_take_their_places_among_the_videos(server):
    server.engine._ad_server = HouseAds(tuple(Ad.model_validate(ad) for ad in ADS))
    answer = server.engine.home("ann", 20)
    items = documents.recommendation(answer, 1.0, debug=True)["items"]
    assert [item["position"] for item in items] == list(range(20))
    assert [item["position"] for item in items if item["is_ad"]] == list(answer.ads) == [3, 12]
    assert {item["reason"]["code"] for item in items if item["is_ad"]} == {"sponsored"}
    shown = documents.shown(answer, None)
    assert list(shown.positions) == [at for at in range(20) if at not in (3, 12)]
    assert list(shown.video_ids) == [item["video_id"] for item in items if not item["is_ad"]]
    assert all("heads" in item for item in items if not item["is_ad"])


def test_settings_name_the_ad_server(tmp_path):
    assert open_ads(Settings(home=tmp_path)).ads(REQUEST) == []
    http = open_ads(Settings(home=tmp_path, ads_url="http://127.0.0.1:9/"))
    assert isinstance(http, HttpAds)
    http.close()
    with pytest.raises(ConfigError, match="UPNEXT_ADS_URL is 'ftp://x'"):
        open_ads(Settings(home=tmp_path, ads_url="ftp://x"))
