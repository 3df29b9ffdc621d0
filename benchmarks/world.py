"""Seconds watched per slot of simple policies on the simulated world, and how fast its log is written.

make bench NAME=world        (ARGS="--seeds 7 8 11" for other worlds)

The room between popularity and the truth is what a recommender can win there.
"""

import argparse
import json
import resource
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from upnext.world.config import DAY_US, START, WorldConfig, to_us
from upnext.world.population import draw_viewers, tastes_at
from upnext.world.world import World

SLOTS = 10
HALF_LIFE_DAYS = 3.0
SHARE_FOREIGN = 0.3
MOST_MIB = 1024
Rows = NDArray[np.int32]


def best(scores: NDArray[np.float64]) -> Rows:
    """Rows of the highest scores in each line, best first: int32[B, 10]."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :SLOTS].astype(np.int32)


def slates(world: World) -> dict[str, Rows]:
    """One page for every viewer when the log ends, by each policy."""
    at = START + timedelta(days=world.config.days)
    count, n = world.user_count, world.live_videos(at)
    who = draw_viewers(world.config, world.space, np.arange(count))
    log = pa.concat_tables(world.events(since=at - timedelta(days=14)))
    watches = log.filter(pc.equal(log["event_type"], "watch"))
    rows = world.video_rows(watches["video_id"])
    age_days = (to_us(at) - watches["timestamp"].cast(pa.int64()).to_numpy()) / DAY_US
    recent = np.exp2(-age_days / HALF_LIFE_DAYS)
    watched = np.bincount(rows, weights=recent, minlength=n)
    watch_ms = np.bincount(rows, weights=recent * watches["watch_duration_ms"].to_numpy(), minlength=n)
    topics = tastes_at(who, np.full(count, to_us(at)))[:, world.catalogue.topic[:n]]
    own_language = who.language[:, None] == world.catalogue.language[:n]
    each = np.ones((count, 1))
    return {
        "random": np.random.default_rng(0).integers(0, n, (count, SLOTS)).astype(np.int32),
        "longest": best(each * world.catalogue.duration_s[:n]),
        "shortest": best(each * -world.catalogue.duration_s[:n]),
        "popularity": best(each * watched),
        "popularity by watch time": best(each * watch_ms),
        "popularity within true topics": best((watched + 0.2) * topics),
        "the same, own language first": best(
            (watched + 0.2) * topics * np.where(own_language, 1.0, SHARE_FOREIGN)
        ),
        "oracle": best(world.appeal(np.arange(count), at)),
    }


def seconds_per_slot(seed: int) -> dict[str, float]:
    """Mean seconds watched per slot by policy, on the default world of a seed."""
    world = World(WorldConfig(seed=seed))
    at = START + timedelta(days=world.config.days)
    viewers = np.arange(world.user_count)
    return {
        name: float(world.watch_ms(viewers, slate, at, expected=True).mean()) / 1000
        for name, slate in slates(world).items()
    }


def write_speed(users: int, videos: int, hours: int) -> tuple[int, float, float]:
    """Events, events a second and peak MiB of the first hours of a log, in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(users), str(videos), str(hours)]
    count, rate, peak = json.loads(subprocess.check_output(command, text=True))
    return count, rate, peak


def _measure(users: int, videos: int, hours: int) -> None:
    world = World(WorldConfig(users=users, videos=videos))
    began = perf_counter()
    count = sum(len(table) for table in world.events(until=START + timedelta(hours=hours)))
    rate = count / (perf_counter() - began)
    print(json.dumps([count, rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def write_log() -> list[dict[str, object]]:
    """Speed and memory of writing the log of the default world, and of a part of a large one."""
    figures: list[dict[str, object]] = []
    table = Table("users × videos", "hours", "events", "events a second", "peak MiB", title="the log")
    for users, videos, hours in ((3_000, 4_000, 21 * 24), (1_000_000, 1_000_000, 4)):
        count, rate, peak = write_speed(users, videos, hours)
        table.add_row(f"{users:,} × {videos:,}", str(hours), f"{count:,}", f"{rate:,.0f}", f"{peak:,.0f}")
        where = f"world.log.{users}x{videos}"
        figures += [
            {"name": f"{where}.rate", "value": round(rate), "unit": "events/s", "goal": None, "holds": True},
            {"name": f"{where}.peak", "value": round(peak), "unit": "MiB", "goal": MOST_MIB}
            | {"holds": peak <= MOST_MIB},
        ]
    Console().print(table)
    return figures


def earn(seeds: list[int]) -> list[dict[str, object]]:
    """What each policy earns on the default world of each seed."""
    figures: list[dict[str, object]] = []
    earned = {seed: seconds_per_slot(seed) for seed in seeds}
    title = "seconds watched per slot (× popularity)"
    table = Table("policy", *(f"seed {seed}" for seed in earned), title=title)
    for name in next(iter(earned.values())):
        cells = [f"{of[name]:.2f} ({of[name] / of['popularity']:.2f})" for of in earned.values()]
        table.add_row(name, *cells)
        for seed, of in earned.items():
            figure = {"name": f"world.{name}.seed_{seed}", "value": round(of[name], 3), "unit": "s/slot"}
            figures.append(figure | {"goal": None, "holds": True})
    Console().print(table)
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 11])
    options.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        _measure(*given.measure)
        return

    # The log first: a child's peak memory starts at its parent's.
    figures = write_log() + earn(given.seeds)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
