"""Twice the load that the service can answer, beside the same service with a queue in place of shedding.

make bench NAME=overload        (after `upnext cycle`; or ARGS="--release FOLDER")

The queue lets twelve in at once, as shedding does at most, and others wait for as long as it takes.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from threading import Thread

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks._load import Load, send
from benchmarks.serving import DATASET, EVENTS, Report, Service, Size, asked, running
from upnext.releases import Releases
from upnext.settings import Settings, load_settings

PROBE_S = 5.0
"""Seconds for which each rate is tried."""
QUEUE = {"limits": {"latency_s": 60, "queue_s": 60}}
EVENT = {"user_id": "u00000000", "event_type": "search", "query": "trail running"}


class Sender:
    """Posts single events, one after the other, while feeds are asked for."""

    def __init__(self, base: str) -> None:
        self.base, self.statuses = base, list[int]()
        self._stop = Flag()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(base_url=self.base, timeout=30) as client:
            while not self._stop.wait(0.05):
                self.statuses.append(client.post(EVENTS, json=EVENT).status_code)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()


def load(service: Service, size: Size, rate: float, seconds: float) -> Load:
    return send(asked(size.users, 4_000), str(service.client.base_url), rate, seconds)


def able(service: Service, size: Size) -> float:
    """The highest rate, requests a second, of which 95 % are answered."""
    rate, best = 10.0, 0.0
    while len(load(service, size, rate, PROBE_S).served) >= 0.95 * rate * PROBE_S:
        rate, best = 1.3 * rate, rate
    if not best:
        raise SystemExit("not even 10 requests a second are answered: is something else running?")
    return best


def overloaded(service: Service, size: Size, rate: float, seconds: float) -> Report:
    """Half of what can be answered, then twice, then half again."""
    report = Report()
    before = load(service, size, rate / 2, seconds / 4)
    report.add("half the load: p99", before.percentile(99), "ms")
    report.add("half the load: shed", 100 * float((before.status == 503).mean()), "%")
    with Sender(str(service.client.base_url)) as events:
        over = load(service, size, 2 * rate, seconds)
    shed = over.status == 503
    report.add("twice: offered", len(over.due) / seconds, "requests/s")
    report.add("twice: answered", len(over.served) / seconds, "requests/s")
    report.add("twice: answered, p50", over.percentile(50), "ms")
    report.add("twice: answered, p99", over.percentile(99), "ms", at_most=150)
    report.add("twice: shed", 100 * float(shed.mean()), "%")
    report.add("shed and not told when to come again", float((~over.hinted[shed]).sum()), "", at_most=0)
    report.add("neither answered nor shed", float((~np.isin(over.status, (200, 503))).sum()), "", at_most=0)
    report.add("events refused", float(np.sum(np.asarray(events.statuses) != 200)), "", at_most=0)
    after = load(service, size, rate / 2, 10)
    report.add("normal again after", _recovered(after, 2 * before.percentile(99)), "s", at_most=5)
    return report


def _recovered(after: Load, bound_ms: float) -> float:
    """Seconds after which no second has a tenth of its requests refused or slower than a bound."""
    worse = (after.status != 200) | (after.ms > bound_ms)
    seconds = after.due.astype(np.int64)
    share = np.bincount(seconds, worse) / np.maximum(np.bincount(seconds), 1)
    return float(np.flatnonzero(share > 0.1).max(initial=-1) + 1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--seconds", type=float, default=60.0, help="of twice the load")
    options.add_argument("--release", default="champion")
    given = options.parse_args()
    release = Releases(load_settings()).resolve(given.release).path.absolute()
    rate, reports = 0.0, list[Report]()
    for funnel in ({}, QUEUE):
        with TemporaryDirectory() as folder:
            settings = Settings(home=Path(folder), dataset=DATASET)
            size = Size(settings, release, [f"u{number:08d}" for number in range(1_000)])
            (settings.home / "funnel.json").write_text(json.dumps(funnel))
            with running(size) as service:
                load(service, size, 20, PROBE_S)  # warms up
                rate = rate or able(service, size)
                reports.append(overloaded(service, size, rate, given.seconds))
                service.client.get("/readyz").raise_for_status()
    shown = Table("", "shedding", "queue", "goal", title=f"{rate:.0f} requests/s can be answered")
    for one, other in zip(reports[0].figures, reports[1].figures, strict=True):
        goal = "" if one.get("goal") is None else f"{one['goal']:g}"
        shown.add_row(f"{one['name']} {one['unit']}", f"{one['value']:.1f}", f"{other['value']:.1f}", goal)
    Console().print(shown)
    if given.json:
        given.json.write_text(json.dumps(reports[0].figures, indent=1))


if __name__ == "__main__":
    main()
