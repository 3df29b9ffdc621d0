"""The real service in processes of its own: feed, event, changed feed, kill, restart."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil
import pytest

from tests.support.bundles import tiny_bundle
from tests.support.collector import collector
from tests.support.redis_server import free_port
from upnext.settings import Settings
from upnext.stores import connect

HOME, EVENTS = "/api/v1/recommendations/home", "/api/v1/events/engagement"
START_S = 90


class Service:
    """``upnext serve`` on a port of its own."""

    def __init__(self, release: Path, home: Path, **more: str):
        self.port = free_port()
        self.log = home / "service.log"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        command = [sys.executable, "-m", "upnext.cli.main", "serve"]
        command += ["--port", str(self.port), "--release", str(release)]
        variables = os.environ | {"UPNEXT_HOME": str(home), "UPNEXT_DATASET": "tiny"} | more
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)

    def wait_ready(self):
        deadline = monotonic() + START_S
        while monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            sleep(0.1)
        raise AssertionError(f"the service did not become ready:\n{self.log.read_text()}")

    def family(self):
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def kill(self):
        """SIGKILL to every process of the service at once."""
        for process in self.family():
            process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.client.close()

    def stop(self):
        """SIGTERM, as an operator would."""
        family = self.family()
        self.process.terminate()
        psutil.wait_procs(family, timeout=30)
        self.client.close()
        return [process for process in family if process.is_running()]

    def feed(self, user):
        return self.client.get(HOME, params={"user_id": user, "count": 10}).raise_for_status().json()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("release")).folder


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def serve(release, home):
    """Starts the service, as often as a test likes; what still runs at its end is killed."""
    started = []

    def start(**more):
        home.mkdir(exist_ok=True)
        started.append(Service(release, home, **more))
        return started[-1].wait_ready()

    yield start
    for service in started:
        if service.process.poll() is None:
            service.kill()


def event(number, user="ann", video="v003"):
    return {
        "event_id": f"event-{number}",
        "user_id": user,
        "video_id": video,
        "event_type": "watch",
        "watch_duration_ms": 60_000,
        "timestamp": datetime.now(UTC).isoformat(),
    }


def log_of(home):
    with connect(Settings(home=home, dataset="tiny")) as stores:
        return stores.event_log.read(limit=1_000_000).events.to_pylist()


def test_a_feed_an_event_and_a_changed_feed(serve, home):
    service = serve()
    before = service.feed("ann")
    posted = service.client.post(EVENTS, json=[event(1), event(2, video="v009")])
    assert posted.json()["accepted"] == 2 and posted.json()["applied"]
    after = service.feed("ann")
    assert [item["video_id"] for item in after["items"]] != [item["video_id"] for item in before["items"]]
    codes = {item["reason"]["code"]: item["reason"]["because_of"] for item in after["items"]}
    assert codes["because_you_watched"] in {"v003", "v009"}

    assert service.client.get("/docs").status_code == 200
    assert EVENTS in service.client.get("/openapi.json").json()["paths"]
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json()["videos"] == 120
    assert "upnext_request_seconds_count" in service.client.get("/metrics").text
    wrong = service.client.get(HOME, params={"count": 0})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")

    assert service.stop() == []
    logged = log_of(home)
    shown = [each for each in logged if each["event_type"] == "impression"]
    assert len(shown) == 20 and {each["request_id"] for each in shown} == {
        before["request_id"],
        after["request_id"],
    }
    assert len(logged) == 22


def test_what_was_accepted_outlives_sigkill_and_counts_once(serve, home):
    service = serve()
    accepted: set[str] = set()
    address = f"http://127.0.0.1:{service.port}"

    def stream(worker):
        with httpx.Client(base_url=address, timeout=10) as client:
            for batch in range(10_000):
                sent = [event(f"{worker}-{batch}-{i}", user=f"user{worker}") for i in range(20)]
                try:
                    answer = client.post(EVENTS, json=sent)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    accepted.update(answer.json()["event_ids"])

    with ThreadPoolExecutor(4) as workers:
        streams = [workers.submit(stream, worker) for worker in range(4)]
        deadline = monotonic() + 30
        while len(accepted) < 400 and monotonic() < deadline:
            sleep(0.02)
        service.kill()
        for done in streams:
            done.result(timeout=30)
    assert len(accepted) >= 400
    kept = [each["event_id"] for each in log_of(home)]
    assert len(kept) == len(set(kept))
    assert accepted <= set(kept)

    again = serve()
    replayed = again.client.post(
        EVENTS, json=[event(name.removeprefix("event-")) for name in sorted(accepted)[:500]]
    )
    assert replayed.json()["accepted"] == 0
    debug = again.client.get(HOME, params={"user_id": "user0", "debug": True}).json()["debug"]
    assert debug["viewer"]["history"] == 1
    assert again.stop() == []
    assert len(log_of(home)) >= len(kept)
    state = json.loads((home / "tiny" / "live.json").read_text())
    counted = sum(videos[""]["v003"] for videos in state["counts"].values())
    assert counted == pytest.approx(len(kept))


def test_without_a_release_serve_says_what_to_do(tmp_path):
    variables = os.environ | {"UPNEXT_HOME": str(tmp_path), "UPNEXT_DATASET": "tiny"}
    command = [sys.executable, "-m", "upnext.cli.main", "serve"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "upnext cycle" in done.stderr and "Traceback" not in done.stderr


def test_every_process_finds_a_new_video_within_30_s_and_loses_a_deleted_one(serve):
    services = [serve(), serve()]
    services[0].client.put(
        "/api/v1/videos/zebra", json={"title": "Zebra crossing", "category": "topic3"}
    ).raise_for_status()

    def until(there):
        """Seconds after which each process finds the video, or no longer does."""
        began, took = monotonic(), {}
        while len(took) < len(services) and monotonic() - began < 30:
            for number, service in enumerate(services):
                found = service.client.get("/api/v1/search", params={"q": "zebra"}).raise_for_status().json()
                if bool(found["items"]) == there:
                    took.setdefault(number, monotonic() - began)
            sleep(0.02)
        assert len(took) == len(services), took
        return [took[number] for number in range(len(services))]

    until(True)
    for service in services:
        latest = service.client.get("/api/v1/recommendations/new-releases", params={"count": 121}).json()
        assert "zebra" in [item["video_id"] for item in latest["items"]]
    services[0].client.delete("/api/v1/videos/zebra").raise_for_status()
    gone = until(False)
    assert gone[0] < 1


def test_the_service_logs_json_lines_and_sends_its_traces(serve):
    with collector() as receiver:
        traces_endpoint = f"http://127.0.0.1:{receiver.server_port}/v1/traces"
        service = serve(UPNEXT_LOG_FORMAT="json", UPNEXT_TRACES_ENDPOINT=traces_endpoint)
        answer = service.feed("ann")
        assert service.stop() == []
        resources = [each for _, _, sent in receiver.received for each in sent.resource_spans]
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert any(line["message"].startswith("serving release") for line in lines)
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    ids = {each.value.string_value for span in spans for each in span.attributes}
    assert answer["request_id"] in ids and "two_tower" in {span.name for span in spans}
