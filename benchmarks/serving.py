"""The champion behind HTTP, one client: time of a home feed beside that of the shelf that ranks nothing.

make bench NAME=serving        (after `upnext cycle`)
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect as connect_sqlite
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep
from uuid import uuid4

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from upnext.releases import Releases
from upnext.settings import Settings, load_settings
from upnext.stores import connect

HOME, TRENDING = "/api/v1/recommendations/home", "/api/v1/recommendations/trending"
EVENTS = "/api/v1/events/engagement"
GOAL_MS = 25.0
"""Median of a home feed from a thousand candidates."""
INTAKE = 5_000
"""Events a second in batches of 100."""


def viewers(settings: Settings, most: int = 200) -> list[str]:
    """Ids of viewers that the lake knows."""
    with connect(settings) as stores:
        ids: list[str] = stores.lake.read("outcomes", ["user_id"])["user_id"].unique().to_pylist()
    return ids[:most]


def milliseconds(call: Callable[[int], object], times: int) -> np.ndarray:
    """Milliseconds of each call, after a tenth more to warm up."""
    taken = []
    for number in range(-times // 10, times):
        start = perf_counter()
        call(number)
        if number >= 0:
            taken.append(1e3 * (perf_counter() - start))
    return np.asarray(taken)


def event(user: str, video: str) -> dict[str, object]:
    return {
        "event_id": str(uuid4()),
        "user_id": user,
        "video_id": video,
        "event_type": "watch",
        "watch_duration_ms": 20_000,
        "timestamp": datetime.now(UTC).isoformat(),
    }


def measure(client: httpx.Client, users: list[str], times: int) -> dict[str, np.ndarray]:
    """Milliseconds by what was asked, and seconds of batches of 100 events."""

    def feed(number: int) -> dict[str, object]:
        asked = {"user_id": users[number % len(users)], "count": 30}
        answer: dict[str, object] = client.get(HOME, params=asked).raise_for_status().json()
        return answer

    shown, late = client.get(TRENDING).json()["items"], list[int]()

    def felt(number: int) -> None:
        sent = event(users[number % len(users)], shown[number % len(shown)]["video_id"])
        if not client.post(EVENTS, json=sent).raise_for_status().json()["applied"]:
            late.append(number)

    def intake(number: int) -> None:
        batch = [event(f"bench-{i}", shown[i % len(shown)]["video_id"]) for i in range(100)]
        client.post(EVENTS, json=batch).raise_for_status()

    return {
        "home feed": milliseconds(feed, times),
        "trending shelf (peer: nothing is ranked)": milliseconds(
            lambda _: client.get(TRENDING, params={"count": 30}).raise_for_status(), times
        ),
        "one event, accepted and felt": milliseconds(felt, times // 4),
        "100 events in one call": milliseconds(intake, times // 10),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--times", type=int, default=400, help="requests of each kind")
    options.add_argument("--release", default="champion")
    options.add_argument("--port", type=int, default=8791)
    given = options.parse_args()
    settings = load_settings()
    users = viewers(settings)
    release = Releases(settings).resolve(given.release).path.absolute()
    command = [sys.executable, "-m", "upnext.cli.main", "serve", "--release", str(release)]
    with TemporaryDirectory() as folder:
        variables = os.environ | {"UPNEXT_HOME": folder, "UPNEXT_DATASET": settings.state.name}
        copy_stores(settings.state, Path(folder) / settings.state.name)
        service = subprocess.Popen([*command, "--port", str(given.port)], env=variables)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{given.port}", timeout=10) as client:
                wait_ready(client, service)
                taken = measure(client, users, given.times)
                videos = client.get("/readyz").json()["videos"]
                seen = client.get(HOME, params={"user_id": users[0], "debug": True}).json()["debug"]
        finally:
            service.terminate()
            service.wait(timeout=30)
    show(taken, videos, seen)
    if given.json:
        given.json.write_text(json.dumps(figures(taken), indent=1))


def copy_stores(state: Path, into: Path) -> None:
    """The local stores that serving reads, so that nothing measured here stays in them."""
    into.mkdir()
    for database in ("history.db", "platform.db"):
        with (
            closing(connect_sqlite(state / database)) as found,
            closing(connect_sqlite(into / database)) as made,
        ):
            found.backup(made)
    shutil.copytree(state / "online", into / "online")


def wait_ready(client: httpx.Client, service: subprocess.Popen[bytes], timeout_s: float = 120) -> None:
    deadline = monotonic() + timeout_s
    while monotonic() < deadline and service.poll() is None:
        try:
            if client.get("/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        sleep(0.2)
    raise SystemExit("the service did not become ready: see what it said above")


def show(taken: dict[str, np.ndarray], videos: int, seen: dict[str, dict[str, float]]) -> None:
    table = Table("", "p50 ms", "p99 ms", title=f"one client, {videos:,} videos")
    for name, times in taken.items():
        table.add_row(name, *(f"{np.percentile(times, share):.1f}" for share in (50, 99)))
    console = Console()
    console.print(table)
    console.print(f"stages of one home feed, ms: {seen['timings_ms']}; candidates: {seen['candidates']}")


def figures(taken: dict[str, np.ndarray]) -> list[dict[str, object]]:
    """What is claimed, with its goal and whether it holds."""
    home = float(np.median(taken["home feed"]))
    events = 100 * 1e3 / float(np.mean(taken["100 events in one call"]))
    return [
        {"name": "home_p50", "value": home, "unit": "ms", "goal": GOAL_MS, "holds": home <= GOAL_MS},
        {"name": "intake", "value": events, "unit": "events/s", "goal": INTAKE, "holds": events >= INTAKE},
    ]


if __name__ == "__main__":
    main()
