"""An open loop of requests from a process of its own: they are sent when they are due, answered or not.

A request's time counts from when it was due, so that a service that falls behind can't hide it by being asked
less. Times between requests are exponential, as of many viewers who know nothing of each other.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter

import aiohttp
import numpy as np
from numpy.typing import NDArray

PATIENCE_S = 30.0
"""After this a request is given up, and counts as failed."""
CONNECTIONS = 2_000


@dataclass(frozen=True)
class Load:
    """due float64[n], seconds since the start; ms float64[n]; status int64[n], 0 where no answer came;
    hinted bool[n], whether the answer said when to come again."""

    due: NDArray[np.float64]
    ms: NDArray[np.float64]
    status: NDArray[np.int64]
    hinted: NDArray[np.bool_]

    @property
    def served(self) -> NDArray[np.float64]:
        """Milliseconds of the answered ones."""
        return self.ms[self.status == 200]

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.served, share)) if len(self.served) else float("inf")


def send(paths: Sequence[str], base: str, rate: float, seconds: float) -> Load:
    """Ask for the paths in turn, ``rate`` a second, from another process."""
    with NamedTemporaryFile(suffix=".npz") as out, NamedTemporaryFile("w", suffix=".txt") as asked:
        asked.write("\n".join(paths))
        asked.flush()
        command = [sys.executable, "-m", "benchmarks._load", base, asked.name, out.name]
        subprocess.run([*command, str(rate), str(seconds)], check=True)
        with np.load(out.name) as found:
            return Load(*(found[name] for name in ("due", "ms", "status", "hinted")))


async def _ask(paths: Sequence[str], base: str, rate: float, seconds: float) -> Load:
    due = np.cumsum(np.random.default_rng(5).exponential(1 / rate, int(rate * seconds)))
    ms, status, hinted = np.full(len(due), np.inf), np.zeros(len(due), np.int64), np.zeros(len(due), bool)
    timeout, limit = aiohttp.ClientTimeout(PATIENCE_S), aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(base, timeout=timeout, connector=limit) as session:

        async def one(number: int, at: float) -> None:
            try:
                async with session.get(paths[number % len(paths)]) as answer:
                    await answer.read()
                    status[number], hinted[number] = answer.status, "Retry-After" in answer.headers
            except (aiohttp.ClientError, TimeoutError):
                pass
            ms[number] = 1e3 * (perf_counter() - at)

        start, tasks = perf_counter(), set[asyncio.Task[None]]()
        for number, offset in enumerate(due.tolist()):
            await asyncio.sleep(max(0.0, start + offset - perf_counter()))
            task = asyncio.create_task(one(number, start + offset))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return Load(due, ms, status, hinted)


def _main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("base", str), ("asked", Path), ("out", Path), ("rate", float), ("seconds", float)):
        options.add_argument(name, type=kind)
    given = options.parse_args()
    paths = given.asked.read_text().splitlines()
    found = asyncio.run(_ask(paths, given.base, given.rate, given.seconds))
    np.savez(given.out, **vars(found))


if __name__ == "__main__":
    _main()
