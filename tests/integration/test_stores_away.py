"""Each outside store killed in turn, and slowed by half a second: feeds are whole, and soon in time again."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, perf_counter, sleep

import numpy as np
import pytest
from limits import parse

from feature_repo.packed import PackedFeatures
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle
from serving import breakers
from serving.api import create_app
from serving.security import RateLimits
from serving.server import Server
from tests.support.bundles import LAYOUTS, tiny_bundle
from tests.support.client import Client
from tests.support.keys import make_key
from tests.support.redis_server import RedisServer
from tests.support.stalling_proxy import StallingProxy, stalling_proxy
from upnext.errors import StoreUnavailable
from upnext.settings import Settings

HOME, COUNT = "/api/v1/recommendations/home", 30
SLOW_S = 0.5
MEASURED = 200
STORES = ("online_features", "rate_limits", "ads", "history", "profiles")
PARTS = {
    "online_features": {"user_features", "video_features"},
    "rate_limits": set(),
    "ads": {"ads"},
    "history": {"history"},
    "profiles": {"profile"},
}
"""Parts of a request that each store is asked for; the door counts requests before there is an answer."""


class Faulty:
    """A store of this process, between us and which the same is wrong as with a proxy."""

    def __init__(self, store: object) -> None:
        self._store, self.delay_s, self.refusing = store, 0.0, False

    def refuse(self) -> None:
        self.refusing = True

    def heal(self) -> None:
        self.delay_s, self.refusing = 0.0, False

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def call(*args: object) -> object:
            if self.refusing:
                raise StoreUnavailable(f"{name} is away")
            sleep(self.delay_s)
            return method(*args)

        return call


@contextmanager
def ad_server() -> Iterator[int]:
    """Gives one ad to whoever asks, at the port that it says."""
    body = json.dumps([{"ad_id": "ad1", "title": "Ad"}]).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Site:
    """A server with real stores behind proxies, and a client with a key."""

    def __init__(self, server: Server, between: dict[str, StallingProxy | Faulty]) -> None:
        self.server, self.between = server, between
        key, _ = make_key(server.stores.keys, "read")
        server.guard.refresh()
        self.client = Client(create_app(lambda: server))
        self._asked = {"headers": {"X-API-Key": key}, "params": {"user_id": "ann", "debug": "true"}}

    def feed(self) -> tuple[dict[str, str], float]:
        """What was skipped of a whole feed, and how long it took."""
        start = perf_counter()
        answer = self.client.get(HOME, **self._asked)
        took = perf_counter() - start
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == COUNT
        skipped: dict[str, str] = answer.json()["debug"]["skipped"]
        return skipped, took

    def figure(self, name: str, **labels: str) -> float:
        return self.server.telemetry.registry.get_sample_value(name, labels) or 0.0

    def state(self, store: str) -> str:
        """All of its values in one look, or another state might come between them."""
        families = {family.name: family for family in self.server.telemetry.registry.collect()}
        samples = (each for each in families["upnext_breaker_state"].samples if each.labels["store"] == store)
        (state,) = (each.labels["state"] for each in samples if each.value)
        return state

    def ask_until(self, store: str, state: str) -> None:
        deadline = monotonic() + 30
        while self.state(store) != state:
            assert monotonic() < deadline
            self.feed()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def site(bundle: Bundle, tmp_path, redis_server: RedisServer) -> Iterator[Site]:
    with ExitStack() as stack:
        proxies = {
            name: stack.enter_context(stalling_proxy(port))
            for name, port in (
                ("online_features", redis_server.port),
                ("rate_limits", redis_server.port),
                ("ads", stack.enter_context(ad_server())),
            )
        }
        settings = Settings(
            home=tmp_path / "home",
            dataset="tiny",
            online_features_url=f"redis://127.0.0.1:{proxies['online_features'].port}/0",
            near_cache_mb=0,
            ads_url=f"http://127.0.0.1:{proxies['ads'].port}/ads",
        )
        server = Server(settings, str(bundle.folder))
        server.rate_limits = RateLimits(
            parse("1000000 per hour"),
            f"redis://127.0.0.1:{proxies['rate_limits'].port}",
            server.breakers.of("rate_limits"),
        )
        local = {"history": Faulty(server.stores.history), "profiles": Faulty(server.stores.profiles)}
        server.releases.history, server.releases.profiles = local["history"], local["profiles"]
        fill(server, bundle)
        server.watcher.look()
        assert server.engine.ready, server.watcher.failing
        made = Site(server, proxies | local)
        yield made
        for each in made.between.values():
            each.heal()
        made.client.close()
        server.engine.close()
        server.stores.close()


def fill(server: Server, bundle: Bundle) -> None:
    """Features of every video and of ann, online."""
    packed = PackedFeatures(server.stores.online_features, LAYOUTS)
    for view, ids in ((USER_VIEW, ["ann"]), (VIDEO_VIEW, bundle.catalogue.ids.tolist())):
        packed.write_matrix(view, ids, np.ones((len(ids), LAYOUTS[view].width), np.float32), 0)


@pytest.mark.parametrize("fault", ["killed", "slowed"])
@pytest.mark.parametrize("store", STORES)
def test_feeds_stay_whole_and_in_time_without_a_store(
    site: Site, store: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = monotonic() + 30
    while site.feed()[0]:  # as it warms up, a part may be late
        assert monotonic() < deadline
    normal = [site.feed()[1] for _ in range(50)]
    if fault == "killed":
        site.between[store].refuse()
    else:
        site.between[store].delay_s = SLOW_S
    before = sum(site.figure("upnext_skipped_parts_total", part=part, why="open") for part in PARTS[store])
    site.ask_until(store, "open")
    took = []
    for _ in range(MEASURED):
        skipped, seconds = site.feed()
        took.append(seconds)
        unasked = {"video_features"} if "ranker" in skipped else set()  # the ranker would have asked
        assert PARTS[store] - unasked <= skipped.keys()
    p99 = float(np.percentile(took, 99))
    assert p99 < max(0.1, 4 * np.percentile(normal, 99)), f"normally {np.percentile(normal, 99):.3f} s"
    after = sum(site.figure("upnext_skipped_parts_total", part=part, why="open") for part in PARTS[store])
    assert after - before >= 0.9 * MEASURED * len(PARTS[store])
    site.between[store].heal()
    monkeypatch.setattr(breakers, "REST_S", 0.0)  # for what is tried and fails from now on
    site.ask_until(store, "closed")
    deadline = monotonic() + 30
    while PARTS[store] & site.feed()[0].keys():
        assert monotonic() < deadline
