"""The service at the size it is built for: a real release enlarged to a million videos, a million users.

make bench NAME=serving ARGS="--json FILE"        (after `upnext cycle`; some ten minutes)

The load comes from a second process, an open loop. Both share the machine's cores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect as connect_sqlite
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks._enlarged import enlarge, fill_stores
from benchmarks._floors import floors
from benchmarks._load import Load, send
from models.bundle import Bundle
from tests.support.redis_server import free_port
from upnext.releases import Releases
from upnext.settings import Settings, load_settings
from upnext.stores import connect

HOME = "/api/v1/recommendations/home"
EVENTS = "/api/v1/events/engagement"
DATASET = "enlarged"
ACTIVE = 20_000
"""Users with a past, who are those that ask."""
SUSTAINED = 80.0
"""Requests a second."""
Figure = dict[str, Any]


@dataclass
class Report:
    """The figures and their goals."""

    figures: list[Figure] = field(default_factory=list)

    def add(
        self, name: str, value: float, unit: str, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        goal = at_most if at_least is None else at_least
        holds = goal is None or (value <= goal if at_least is None else value >= goal)
        said = "" if goal is None else f"{'≤' if at_least is None else '≥'} {goal:g}"
        figure = {"name": f"serving.{name}", "value": round(float(value), 4), "unit": unit, "goal": goal}
        self.figures.append(figure | {"holds": bool(holds)})
        mark = "" if goal is None else " ✓" if holds else " ✗"
        Console(stderr=True).print(f"{name}: {value:,.2f} {unit}  {said}{mark}")

    def show(self) -> None:
        table = Table("", "figure", "unit", "goal", "")
        for each in self.figures:
            goal = "" if each["goal"] is None else f"{each['goal']:g}"
            mark = "" if each["goal"] is None else "✓" if each["holds"] else "✗"
            table.add_row(each["name"], f"{each['value']:,.2f}", each["unit"], goal, mark)
        Console().print(table)


@dataclass(frozen=True)
class Size:
    """An installation of one size: its settings, its bundle, and users that have a past."""

    settings: Settings
    bundle: Path
    users: list[str]


@dataclass(frozen=True)
class Service:
    """One that runs."""

    process: subprocess.Popen[bytes]
    client: httpx.Client

    def home(self, user: str, **asked: Any) -> Any:
        return self.client.get(HOME, params={"user_id": user} | asked).raise_for_status().json()

    def processes(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def cpu_s(self) -> float:
        return float(sum(sum(each.cpu_times()[:2]) for each in self.processes()))

    def resident_gib(self) -> float:
        """What its processes hold in memory, files that are mapped included, shared pages once."""
        return float(sum(each.memory_full_info().pss for each in self.processes()) / 2**30)

    def stages(self) -> dict[str, tuple[float, float]]:
        """Sum of seconds and number, by stage of the funnel."""
        sums: dict[str, list[float]] = {}
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples if family.name == "upnext_stage_seconds" else ():
                if sample.name.endswith(("_sum", "_count")):
                    pair = sums.setdefault(sample.labels["stage"], [0.0, 0.0])
                    pair[sample.name.endswith("_count")] = sample.value
        return {stage: (total, number) for stage, (total, number) in sums.items()}


def made(videos: int, into: Path) -> Size:
    """An installation of so many videos and users, made of the champion in use."""
    small = load_settings()
    settings = Settings(home=into, dataset=DATASET)
    users = [f"u{number:08d}" for number in range(min(ACTIVE, videos))]
    if not (into / "bundle").is_dir():
        settings.state.mkdir(parents=True, exist_ok=True)
        champion = Bundle.load(Releases(small).resolve("champion").path)
        bundle = Bundle.load(enlarge(champion, videos, into / "bundle"))
        with connect(small) as stores:
            at = champion.manifest.as_of
            fill_stores(bundle, stores.lake, settings, at, users=videos, active=len(users))
    return Size(settings, into / "bundle", users)


@contextmanager
def running(size: Size, ready_s: float = 300.0) -> Iterator[Service]:
    """The service over an installation, on loopback."""
    port = free_port()
    variables = os.environ | {
        "UPNEXT_HOME": str(size.settings.home),
        "UPNEXT_DATASET": DATASET,
        "UPNEXT_RATE_LIMIT": "",
    }
    command = [sys.executable, "-m", "upnext.cli.main", "serve", "--port", str(port)]
    process = subprocess.Popen([*command, "--release", str(size.bundle.absolute())], env=variables)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        service = Service(process, client)
        try:
            _await_ready(client, process, ready_s)
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=60)


def unloaded(service: Service, users: list[str], times: int = 400) -> np.ndarray:
    """Milliseconds of home feeds, one after the other, after a quarter more to warm up."""
    taken = []
    for number in range(-times // 4, times):
        start = perf_counter()
        service.home(users[number % len(users)], count=30)
        if number >= 0:
            taken.append(1e3 * (perf_counter() - start))
    return np.asarray(taken)


def asked(users: list[str], number: int) -> list[str]:
    some = np.random.default_rng(7).choice(users, number)
    return [f"{HOME}?user_id={user}&count=30" for user in some.tolist()]


def saturation(service: Service, users: list[str], report: Report) -> float:
    """The highest rate, requests a second, that is kept up with."""
    best, rate = 0.0, SUSTAINED / 8
    while rate <= 20 * SUSTAINED:
        before = service.cpu_s()
        load = send(asked(users, 4_000), _base(service), rate, 10)
        cpu = service.cpu_s() - before
        behind = load.percentile(99) > 1_000 or len(load.served) < 0.99 * len(load.due)
        if behind:
            break
        best = rate
        per_request = 1e3 * cpu / max(len(load.served), 1)
        report.add(f"processor time of a request at {rate:.0f}/s", per_request, "ms")
        rate *= 1.25
    report.add("rate kept up with, one process", best, "requests/s")
    return best


def overloaded(service: Service, users: list[str], rate: float, report: Report, seconds: float = 60) -> None:
    load = send(asked(users, 8_000), _base(service), 2 * rate, seconds)
    shed = load.status == 503
    report.add("twice that: answered in time, p99", load.percentile(99), "ms", at_most=150)
    report.add("twice that: answered", len(load.served) / seconds, "requests/s")
    report.add("twice that: shed", 100 * float(shed.mean()), "%")
    hinted = 100 * float(load.hinted[shed].mean()) if shed.any() else 100.0
    report.add("of those, told when to come again", hinted, "%", at_least=100)
    other = ~np.isin(load.status, (200, 503))
    report.add("twice that: neither answered nor shed", float(other.sum()), "requests", at_most=0)
    start = monotonic()
    while (after := send(asked(users, 1_000), _base(service), rate / 2, 2)).percentile(99) > 50:
        if monotonic() - start > 60:
            break
    report.add("seconds until p99 is below 50 ms again", monotonic() - start - 2, "s", at_most=5)
    report.add("after it, p99", after.percentile(99), "ms")


def felt(service: Service, users: list[str], report: Report, times: int = 200) -> None:
    """From sending a watch until a feed has been answered that knows of it."""
    taken, unseen = [], 0
    for user in users[:times]:
        video = service.home(user, count=1)["items"][0]["video_id"]
        start = perf_counter()
        sent = service.client.post(EVENTS, json=_event(user, video)).raise_for_status().json()
        shown = {item["video_id"] for item in service.home(user, count=30)["items"]}
        taken.append(perf_counter() - start)
        unseen += video in shown or not sent["applied"]
    report.add("event accepted and felt, p99", float(np.percentile(taken, 99)), "s", at_most=1)
    report.add("events that the next feed did not know of", unseen, "", at_most=0)


def intake(service: Service, size: Size, report: Report, seconds: float = 10) -> None:
    """Batches of a hundred as fast as they are taken, then SIGKILL: what was accepted is in the log."""
    video = service.home(size.users[0], count=1)["items"][0]["video_id"]
    accepted, start = 0, perf_counter()
    while perf_counter() - start < seconds:
        batch = [_event(f"bench-{number}", video) for number in range(100)]
        accepted += service.client.post(EVENTS, json=batch).raise_for_status().json()["accepted"]
    report.add("intake in batches of 100", accepted / (perf_counter() - start), "events/s", at_least=5_000)
    for process in reversed(service.processes()):
        process.send_signal(signal.SIGKILL)
    service.process.wait()
    with closing(connect_sqlite(size.settings.state / "events.db")) as log:
        (kept,) = log.execute("SELECT count(*) FROM events WHERE user_id LIKE 'bench-%'").fetchone()
    report.add("accepted events lost by SIGKILL", accepted - kept, "events", at_most=0)


def profile(service: Service, users: list[str], bundle: Path, report: Report) -> None:
    """Where the time of an unloaded request goes, by stage, and the floors of the work in it."""
    before = service.stages()
    for user in users[:300]:
        service.home(user, count=30)
    for stage, (total, number) in service.stages().items():
        first = before.get(stage, (0.0, 0.0))
        if number > first[1]:
            report.add(f"stage {stage}", 1e3 * (total - first[0]) / (number - first[1]), "ms, mean")
    bare = floors(Bundle.load(bundle, verify=False))
    for part, took in bare.items():
        report.add(f"floor of {part}", took, "ms, p50")
    report.add("sum of the floors", sum(bare.values()), "ms")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--videos", type=int, default=1_000_000, help="and as many users")
    options.add_argument("--smaller", type=int, nargs="*", default=[10_000, 100_000], help="other sizes")
    options.add_argument("--keep", type=Path, help="folder to keep the installations in, and to find them")
    given = options.parse_args()
    report = Report()
    with TemporaryDirectory() as folder:
        root = given.keep or Path(folder)
        least = len(Bundle.load(Releases(load_settings()).resolve("champion").path, verify=False).catalogue)
        for videos in (videos for videos in given.smaller if videos >= least):
            size = made(videos, root / str(videos))
            with running(size) as service:
                taken = unloaded(service, size.users)
                report.add(f"home at {videos:,} videos, p50", float(np.median(taken)), "ms")
        size = made(given.videos, root / str(given.videos))
        with running(size) as service:
            report.add("memory before the first request", service.resident_gib(), "GiB")
            taken = unloaded(service, size.users)
            report.add("home, unloaded, p50", float(np.median(taken)), "ms", at_most=12)
            report.add("home, unloaded, p99", float(np.percentile(taken, 99)), "ms", at_most=25)
            profile(service, size.users, size.bundle, report)
            felt(service, size.users, report)
            load = send(asked(size.users, 4_000), _base(service), SUSTAINED, 30)
            report.add(f"{SUSTAINED:.0f} requests/s, p50", load.percentile(50), "ms")
            report.add(f"{SUSTAINED:.0f} requests/s, p99", load.percentile(99), "ms", at_most=50)
            report.add("of those, answered", _answered(load), "%", at_least=100)
            best = saturation(service, size.users, report)
            report.add("memory", service.resident_gib(), "GiB", at_most=2.5)
            overloaded(service, size.users, max(best, 1.0), report)
            intake(service, size, report)
    report.show()
    if given.json:
        given.json.write_text(json.dumps(report.figures, indent=1))


def _answered(load: Load) -> float:
    return 100 * len(load.served) / len(load.due)


def _base(service: Service) -> str:
    return str(service.client.base_url)


def _event(user: str, video: str) -> dict[str, object]:
    return {
        "event_id": str(uuid4()),
        "user_id": user,
        "video_id": video,
        "event_type": "watch",
        "watch_duration_ms": 20_000,
        "timestamp": datetime.now(UTC).isoformat(),
    }


def _await_ready(client: httpx.Client, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = monotonic() + timeout_s
    while monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        sleep(0.2)
    raise SystemExit("the service did not become ready: see what it said above")


if __name__ == "__main__":
    main()
