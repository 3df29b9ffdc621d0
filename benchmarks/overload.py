"""Twice the load that the service can answer: who is answered, how fast, and what becomes of the others.

Its peer is the same service with a queue in place of shedding: everybody is let in, twelve at once.

make bench NAME=overload        (after `upnext cycle`; or ARGS="--release FOLDER")
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import aiohttp
import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving import EVENTS, HOME, copy_stores, event, wait_ready
from upnext.releases import Releases
from upnext.settings import load_settings

P99_MS, BACK_S = 150.0, 5.0
QUEUE = {"limits": {"latency_s": 60, "queue_s": 60}}
"""The peer's parameters."""
CLIENTS = 4
"""Of the closed loop that finds out what the service can do."""
EVENT_EVERY_S = 0.05
PROBLEM = "application/problem+json"
Figure = dict[str, object]


@dataclass(frozen=True)
class Answer:
    """One request. at: seconds since the load began; took: seconds from when it was due."""

    at: float
    took: float
    status: int
    told_when: bool


async def ask(session: aiohttp.ClientSession, number: int, at: float, began: float) -> Answer:
    """One feed, or what came instead; 0 for a connection that broke."""
    try:
        async with session.get(HOME, params={"user_id": f"viewer{number % 500}", "count": "30"}) as answer:
            await answer.read()
            status = answer.status
            told = "Retry-After" in answer.headers and answer.content_type == PROBLEM
    except aiohttp.ClientError:
        status, told = 0, False
    return Answer(at, perf_counter() - began - at, status, told)


async def closed_loop(session: aiohttp.ClientSession, seconds: float) -> list[Answer]:
    """Some clients, each asking again when it is answered."""
    began = perf_counter()

    async def client(first: int) -> list[Answer]:
        found: list[Answer] = []
        while (at := perf_counter() - began) < seconds:
            found.append(await ask(session, first + CLIENTS * len(found), at, began))
        return found

    return [each for found in await asyncio.gather(*map(client, range(CLIENTS))) for each in found]


async def open_loop(session: aiohttp.ClientSession, rate: float, seconds: float) -> list[Answer]:
    """Requests at their times, whatever becomes of those before them."""
    began, asked = perf_counter(), []
    for number in range(int(rate * seconds)):
        at = number / rate
        await asyncio.sleep(max(0.0, began + at - perf_counter()))
        asked.append(asyncio.create_task(ask(session, number, at, began)))
    return list(await asyncio.gather(*asked))


async def events(session: aiohttp.ClientSession, stop: asyncio.Event) -> list[int]:
    """Statuses of single events, sent one after the other until told to stop."""
    found = []
    while not stop.is_set():
        try:
            async with session.post(EVENTS, json=event("viewer0", "v000")) as answer:
                found.append(answer.status)
        except aiohttp.ClientError:
            found.append(0)
        await asyncio.sleep(EVENT_EVERY_S)
    return found


async def measure(url: str, seconds: float) -> dict[str, list[Answer] | list[int]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await closed_loop(session, seconds / 6)  # warms up
        able = await closed_loop(session, seconds / 6)
        rate = sum(each.status == HTTPStatus.OK for each in able) / (seconds / 6)
        stop = asyncio.Event()
        sending = asyncio.create_task(events(session, stop))
        over = await open_loop(session, 2 * rate, seconds)
        after = await open_loop(session, rate / 2, 2 * BACK_S)
        stop.set()
        return {"able": able, "over": over, "after": after, "events": await sending}


def back_after(answers: list[Answer], normal_s: float) -> float:
    """When the last request came that was refused, or took longer than is normal at twice this load."""
    late = [each.at for each in answers if each.status != HTTPStatus.OK or each.took > normal_s]
    return max(late, default=0.0)


def summary(found: dict[str, list[Answer] | list[int]], seconds: float) -> list[Figure]:
    over = found["over"]
    served = np.asarray([each.took for each in over if each.status == HTTPStatus.OK])
    refused = [each for each in over if each.status == HTTPStatus.SERVICE_UNAVAILABLE]
    able = np.asarray([each.took for each in found["able"] if each.status == HTTPStatus.OK])
    p99 = 1e3 * float(np.percentile(served, 99))
    back = back_after(found["after"], float(np.percentile(able, 99)))
    odd = len(over) - len(served) - sum(each.told_when for each in refused)
    lost = sum(status != HTTPStatus.OK for status in found["events"])
    return [
        {"name": "able", "value": len(able) / (seconds / 6), "unit": "requests/s"},
        {"name": "able_p99", "value": 1e3 * float(np.percentile(able, 99)), "unit": "ms"},
        {"name": "offered", "value": len(over) / seconds, "unit": "requests/s"},
        {"name": "served", "value": len(served) / seconds, "unit": "requests/s"},
        {"name": "served_p50", "value": 1e3 * float(np.median(served)), "unit": "ms"},
        {"name": "served_p99", "value": p99, "unit": "ms", "goal": P99_MS, "holds": p99 < P99_MS},
        {
            "name": "neither_200_nor_503_with_retry_after",
            "value": odd,
            "unit": "",
            "goal": 0,
            "holds": not odd,
        },
        {"name": "events_not_accepted", "value": lost, "unit": "events", "goal": 0, "holds": lost == 0},
        {"name": "back_to_normal", "value": back, "unit": "s", "goal": BACK_S, "holds": back <= BACK_S},
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--seconds", type=float, default=60.0, help="of twice the load")
    options.add_argument("--release", default="champion")
    options.add_argument("--port", type=int, default=8792)
    given = options.parse_args()
    shed = served(given.release, given.port, given.seconds, None)
    queued = served(given.release, given.port, given.seconds, QUEUE)
    table = Table("", "shedding", "queue", "goal", title=f"twice the load for {given.seconds:.0f} s")
    for one, other in zip(shed, queued, strict=True):
        goal = f"{one['goal']:g}" if "goal" in one else ""
        table.add_row(f"{one['name']}, {one['unit']}", f"{one['value']:.1f}", f"{other['value']:.1f}", goal)
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(shed, indent=1))


def served(ref: str, port: int, seconds: float, funnel: dict[str, dict[str, float]] | None) -> list[Figure]:
    """The figures of a service of its own; ``funnel`` is what its funnel.json says."""
    settings = load_settings()
    release = Releases(settings).resolve(ref).path.absolute()
    command = [sys.executable, "-m", "upnext.cli.main", "serve", "--release", str(release)]
    with TemporaryDirectory() as folder:
        variables = os.environ | {"UPNEXT_HOME": folder, "UPNEXT_DATASET": settings.state.name}
        if (settings.state / "history.db").is_file():
            copy_stores(settings.state, Path(folder) / settings.state.name)
        if funnel:
            (Path(folder) / "funnel.json").write_text(json.dumps(funnel))
        service = subprocess.Popen([*command, "--port", str(port)], env=variables)
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=10) as client:
                wait_ready(client, service)
                found = summary(asyncio.run(measure(url, seconds)), seconds)
                client.get("/readyz").raise_for_status()  # it is alive
                return found
        finally:
            service.terminate()
            service.wait(timeout=30)


if __name__ == "__main__":
    main()
