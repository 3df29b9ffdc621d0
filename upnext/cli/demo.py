"""``upnext demo``: the whole way once, from events to a served feed, as a newcomer would see it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from upnext.errors import StoreUnavailable, UpnextError
from upnext.settings import Settings, load_settings

POLICIES = ("random", "popularity", "funnel")
Json = dict[str, Any]


class DemoFailed(UpnextError):
    pass


@click.command()
@click.option("--data", "source", default="world:", show_default=True, help="As for `upnext cycle`.")
@click.option("--serve/--no-serve", default=True, help="Whether to start the service and call it.")
def demo(source: str, serve: bool) -> None:
    """Train, check against popularity, release, serve, and show one viewer's feed.

    The figures also go to report.json in UPNEXT_HOME.
    """
    console = Console(highlight=False)
    console.print(f"[bold]Upnext[/] learns from [cyan]{source}[/]")
    steps = _cycle(source)
    report = make_report(steps)
    settings = load_settings()
    target = settings.home / "report.json"
    target.write_text(json.dumps(report, indent=1))
    _print_policies(console, report, _gate(steps))
    _print_steps(console, report["steps"])
    console.print(f"The same figures are in {target}")
    if not _gate(steps)["metrics"]["passed"]:
        raise DemoFailed(
            "the gate refused the candidate, so there is nothing new to serve: see its reasons above"
        )
    if serve:
        with running_service(settings) as url:
            _show_feed(console, url, _viewer(settings, steps))
            if sys.stdout.isatty():
                console.print(f"\nServing on [cyan]{url}/docs[/] until Ctrl-C.")
                _until_interrupted()


def make_report(steps: Sequence[Json]) -> Json:
    """The figures of a cycle: ``policies``, ``lift`` over popularity with its 95 % interval, ``steps``."""
    gate = _gate(steps)
    policies, comparisons = gate["details"]["policies"], gate["details"]["comparisons"]
    watch = comparisons.get("watch_time_per_slot_s over popularity", {})
    ndcg = comparisons.get("ndcg_at_10 over popularity", {})
    return {
        "policies": {
            name: {key: policies[name].get(key) for key in ("ndcg_at_10", "watch_time_per_slot_s")}
            for name in POLICIES
        },
        "lift": {
            "watch_time": watch.get("lift"),
            "interval": list(watch.get("lift_interval", (None, None))),
            "ndcg_at_10": ndcg.get("lift"),
            "ndcg_at_10_interval": list(ndcg.get("lift_interval", (None, None))),
        },
        "steps": [
            {
                "name": step["step"],
                "seconds": step["seconds"] if step["fresh"] else 0.0,
                "peak_memory_mb": step["peak_memory_mb"],
            }
            for step in steps
        ],
    }


@contextmanager
def running_service(settings: Settings, timeout_s: float = 60) -> Iterator[str]:
    """The service in a process of its own, answering at the URL that is given."""
    import httpx

    url = f"http://{settings.host}:{settings.port}"
    child = subprocess.Popen([sys.executable, "-m", "upnext.cli.main", "serve"])
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            if child.poll() is not None:
                raise StoreUnavailable(f"the service ended with exit code {child.returncode} while starting")
            try:
                if httpx.get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the service did not answer on {url}/readyz within {timeout_s:.0f} s")
            time.sleep(0.1)
        yield url
    finally:
        child.terminate()
        child.wait(timeout=30)


def _cycle(source: str) -> list[Json]:
    command = [sys.executable, "-m", "upnext.cli.main", "cycle", "--data", source, "--json"]
    child = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise SystemExit(child.returncode)
    steps: list[Json] = json.loads(child.stdout)
    return steps


def _gate(steps: Sequence[Json]) -> Json:
    return next(step for step in steps if step["step"] == "gate")


def _print_policies(console: Console, report: Json, gate: Json) -> None:
    table = Table(title=f"Hold-out since {gate['params']['holdout_since'][:16]}", title_justify="left")
    table.add_column("policy")
    table.add_column("NDCG@10", justify="right")
    table.add_column("watch time per slot", justify="right")
    for name, figures in report["policies"].items():
        seconds = figures["watch_time_per_slot_s"]
        table.add_row(
            name, f"{figures['ndcg_at_10']:.4f}", "unknown" if seconds is None else f"{seconds:.2f} s"
        )
    console.print(table)
    console.print(f"Watch time is {gate['details']['watch_time']}; {int(gate['metrics']['users'])} users.")
    for name, key in (("watch time", "watch_time_per_slot_s"), ("NDCG@10", "ndcg_at_10")):
        found: Mapping[str, Any] | None = gate["details"]["comparisons"].get(f"{key} over popularity")
        if found and found["lift"] is not None:
            low, high = found["lift_interval"]
            console.print(
                f"  {name} over popularity: [bold]{found['lift']:+.1%}[/]  (95 %: {low:+.1%} to {high:+.1%})"
            )


def _print_steps(console: Console, steps: Sequence[Json]) -> None:
    table = Table("step")
    table.add_column("seconds", justify="right")
    table.add_column("peak MiB", justify="right")
    for step in steps:
        table.add_row(step["name"], f"{step['seconds']:.1f}", f"{step['peak_memory_mb']:.0f}")
    console.print(table)


def _viewer(settings: Settings, steps: Sequence[Json]) -> str:
    """A viewer of the hold-out with a history of some length."""
    import pyarrow.parquet as pq

    runs: Path = settings.state / "runs"
    newest = max(runs.glob("*/gate/users.parquet"), key=lambda file: file.stat().st_mtime)
    return str(pq.read_table(newest)["user_id"][0].as_py())


def _show_feed(console: Console, url: str, user: str) -> None:
    import httpx

    with httpx.Client(base_url=url, timeout=10) as client:

        def feed() -> Json:
            answer = client.get("/api/v1/recommendations/home", params={"user_id": user, "count": 10})
            answer.raise_for_status()
            body: Json = answer.json()
            return body

        before = feed()
        _print_feed(console, f"The home feed of viewer {user}", before, set())
        watched = next((item for item in before["items"] if item["reason"]["code"] == "explore"), None)
        watched = watched or before["items"][len(before["items"]) // 2]
        event = {
            "user_id": user,
            "video_id": watched["video_id"],
            "event_type": "watch",
            "watch_duration_ms": watched["duration_ms"] or 30_000,
            "request_id": before["request_id"],
            "surface": "home",
            "position": watched["position"],
        }
        client.post("/api/v1/events/engagement", json=event).raise_for_status()
        console.print(
            f"\nThe viewer watches [cyan]{watched['title'] or watched['video_id']}[/] to its end.\n"
        )
        known = {item["video_id"] for item in before["items"]}
        _print_feed(console, "The next feed (* marks what is new in it)", feed(), known)


def _print_feed(console: Console, title: str, body: Json, known: set[str]) -> None:
    table = Table("", "video", "why", title=f"{title}, in {body['took_ms']:.0f} ms", title_justify="left")
    for item in body["items"]:
        mark = "*" if known and item["video_id"] not in known else ""
        name = item["title"] or f"video {item['video_id']}"
        table.add_row(f"{item['position'] + 1}{mark}", name, item["reason"]["text"])
    console.print(table)


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
