"""A thousand candidates × 200 features out of every form of the online store, each beside its peer.

make bench NAME=features ARGS="--json FILE"

The layout is synthetic: 200 float16 features, 400 bytes a video. Redis is the tests' own, on loopback. Peers
run in the same loop as ours, each call with ids of its own, so that none finds in the processor's cache what
the other has read.
"""

import argparse
import json
import resource
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _feast_redis
from feature_repo.packed import PackedFeatures
from feature_repo.rows import keep_catalogue, open_rows, write_rows
from models.layout import HEADER, FeatureLayout
from tests.support.redis_server import RedisServer, redis_server
from upnext.stores.lmdb_features import Environment, LmdbFeatures
from upnext.stores.redis_features import RedisFeatures, keys_of

VIEW = "video_features"
CANDIDATES, WIDTH = 1_000, 200
LAYOUT = FeatureLayout.of([f"f{number:03d}" for number in range(WIDTH)], "float16")
RAW = LAYOUT.size - HEADER
NEW = datetime(2026, 1, 1, tzinfo=UTC)
NEAR_MB = 448
"""What serving keeps of videos by default."""
SETTLED = 0.001
"""Share of more hits, in ten thousand requests, below which a near cache is warm."""
Ids = list[str]
Figure = dict[str, Any]


class Report:
    """The table and the figures behind it."""

    def __init__(self) -> None:
        self.table = Table("", "p50", "p99", "ratio of p50", "goal", title="ms for 1,000 × 200 features")
        self.figures: list[Figure] = []

    def beside(
        self, name: str, times: Mapping[str, np.ndarray], at_most: float = 0.0, at_least: float = 0.0
    ) -> None:
        """The first of ``times`` is ours, the second its peer; a ratio of medians has the goal."""
        (_, ours), (_, peer) = list(times.items())[:2]
        ratio = np.median(peer) / np.median(ours) if at_least else np.median(ours) / np.median(peer)
        holds = bool(ratio >= at_least if at_least else ratio <= at_most)
        goal = f"≥ {at_least:g}" if at_least else f"≤ {at_most:g}"
        for place, (who, taken) in enumerate(times.items()):
            tail = (f"{ratio:.2f} ×", f"{goal} {'✓' if holds else '✗'}") if place == 0 else ("", "")
            self.table.add_row(who, f"{np.median(taken):.3f}", f"{np.percentile(taken, 99):.3f}", *tail)
        self.table.add_section()
        self.add(name, float(ratio), "×", at_least or at_most, holds)
        for who, taken in times.items():
            self.add(f"{name}: {who}", float(np.median(taken)), "ms", p99=float(np.percentile(taken, 99)))

    def line(self, what: str, value: float, unit: str, goal: float | None = None, **more: Any) -> None:
        holds = goal is None or value <= goal
        said = "" if goal is None else f"≤ {goal:g} {'✓' if holds else '✗'}"
        self.table.add_row(what, f"{value:,.4g} {unit}", "", "", said)
        self.add(what, value, unit, goal, holds, **more)

    def add(
        self, name: str, value: float, unit: str, goal: float | None = None, holds: bool = True, **more: Any
    ) -> None:
        figure = {"name": f"features.{name}", "value": round(value, 4), "unit": unit, "goal": goal}
        self.figures.append(figure | {"holds": holds} | more)


def side_by_side(
    calls: Mapping[str, Callable[[Any], object]], asked: Callable[[], Any], times: int
) -> dict[str, np.ndarray]:
    """Milliseconds of each call, one after the other in one loop, after a tenth more to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-times // 10, times):
        for name, call in calls.items():
            ids = asked()
            start = perf_counter()
            call(ids)
            if number >= 0:
                taken[name].append(1e3 * (perf_counter() - start))
    return {name: np.asarray(each) for name, each in taken.items()}


def names(rows: np.ndarray) -> Ids:
    return [f"v{row:08d}" for row in rows.tolist()]


def features_of(videos: int) -> np.ndarray:
    """float32[videos, 200], as ln(1 + count) and shares would be."""
    rng = np.random.default_rng(0)
    rows = np.empty((videos, WIDTH), np.float32)
    for start in range(0, videos, 50_000):
        rng.standard_exponential(out=rows[start : start + 50_000], dtype=np.float32)
    return rows


def fill(report: Report, stores: Mapping[str, Any], root: Path, videos: int) -> None:
    """Materialise into every store, as the step does: one matrix, written in batches."""
    rows, ids = features_of(videos), names(np.arange(videos))
    keep_catalogue(root, ids)
    writers: dict[str, Callable[[], object]] = {
        name: lambda port=port: PackedFeatures(port, {VIEW: LAYOUT}).write_matrix(VIEW, ids, rows, 1)
        for name, port in stores.items()
    }
    writers["rows"] = lambda: write_rows(root, VIEW, LAYOUT, NEW, ids, rows, np.zeros(WIDTH, np.float32))
    for name, write in writers.items():
        start = perf_counter()
        write()
        report.line(f"materialise {videos:,} into {name}", videos / (perf_counter() - start), "rows/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.line("peak memory of that, the matrix included", peak, "GiB", matrix=rows.nbytes / 2**30)


def weigh(report: Report, before: int, server: RedisServer, root: Path, videos: int) -> None:
    used = server.client().info("memory")["used_memory"] - before
    stored = {
        "Redis": used,
        "LMDB": (root / "online" / "data.mdb").stat().st_blocks * 512,
        "rows": sum(path.stat().st_size for path in root.glob("rows/*@*/*.rows")),
    }
    for name, size in stored.items():
        report.line(f"bytes a video in {name} ({RAW} raw)", size / videos, "B")


def redis_by_id(report: Report, redis: RedisFeatures, server: RedisServer, asked: Any, times: int) -> None:
    features, client = PackedFeatures(redis, {VIEW: LAYOUT}), server.client()
    (view,) = features.versions(VIEW)

    def bare(request: tuple[Ids, list[bytes]]) -> object:
        return np.frombuffer(b"".join(client.mget(request[1])), np.uint8).reshape(CANDIDATES, -1)

    def both() -> tuple[Ids, list[bytes]]:
        ids = asked()
        return ids, keys_of(view, ids)

    calls = {
        "read_matrix over Redis": lambda request: features.read_matrix(VIEW, request[0]),
        "bare MGET and frombuffer": bare,
    }
    report.beside("redis", side_by_side(calls, both, times), at_most=1.15)


def near_cache(report: Report, redis: RedisFeatures, asked: Callable[[], Ids], times: int) -> None:
    near = PackedFeatures(redis, {VIEW: LAYOUT}, near_mb={VIEW: NEAR_MB})
    uncached, cache = PackedFeatures(redis, {VIEW: LAYOUT}), near.near[VIEW]
    cache.await_vouched(5.0)
    _warm(near, asked)
    before = cache.counts.copy()
    calls = {
        f"near cache of {NEAR_MB} MB, Zipf": lambda ids: near.read_matrix(VIEW, ids),
        "uncached, Zipf": lambda ids: uncached.read_matrix(VIEW, ids),
    }
    report.beside("near_cache", side_by_side(calls, asked, times), at_least=3.0)
    seen = {name: cache.counts[name] - before[name] for name in ("hits", "misses")}
    report.line("rows found near", 100 * seen["hits"] / sum(seen.values()), "%")
    report.line(
        "seconds until a write is seen, worst of 200", _staleness(near, uncached, asked), "s", goal=1.0
    )
    near.close()


def _warm(near: PackedFeatures, asked: Callable[[], Ids]) -> None:
    """Ask until what is found near hardly grows any more, as in a process that runs for long."""
    found, counts = -1.0, near.near[VIEW].counts
    while True:
        before = counts.copy()
        for _ in range(10_000):
            near.read_matrix(VIEW, asked())
        hits, misses = (counts[name] - before[name] for name in ("hits", "misses"))
        if hits / (hits + misses) < found + SETTLED:
            return
        found = hits / (hits + misses)


def _staleness(near: PackedFeatures, writer: PackedFeatures, asked: Callable[[], Ids]) -> float:
    """Write one cached video anew, read until it is seen; seconds of the slowest of 200."""
    worst, ids = 0.0, asked()
    for number in range(200):
        near.read_matrix(VIEW, ids)
        writer.write_matrix(VIEW, ids[:1], np.full((1, WIDTH), number, np.float32), 1)
        start = perf_counter()
        while near.read_matrix(VIEW, ids[:1])[0, 0] != number:
            pass
        worst = max(worst, perf_counter() - start)
    return worst


def lmdb_by_id(report: Report, lmdb: LmdbFeatures, root: Path, asked: Callable[[], Ids], times: int) -> None:
    features = PackedFeatures(lmdb, {VIEW: LAYOUT})
    environment = Environment.share(root / "online")
    view = environment.view(features.versions(VIEW)[0].encode())

    def bare(request: tuple[Ids, list[bytes]]) -> object:
        return environment.transact(lambda txn: [txn.get(key) for key in request[1]], view)

    def both() -> tuple[Ids, list[bytes]]:
        ids = asked()
        return ids, [id_.encode() for id_ in ids]

    calls = {
        "read_matrix over LMDB by id": lambda request: features.read_matrix(VIEW, request[0]),
        "bare gets": bare,
    }
    report.beside("lmdb", side_by_side(calls, both, times), at_most=1.2)
    environment.release()


def by_row(report: Report, root: Path, videos: int, times: int) -> None:
    (pointer,) = root.glob("rows/*@*/*.json")
    rows = open_rows(pointer, LAYOUT)
    halves = np.memmap(next(root.glob("rows/*@*/*.rows")), np.float16, mode="r").reshape(videos, WIDTH)
    plain, rng = np.asarray(halves), np.random.default_rng(2)
    plain.max()  # both find the pages in memory
    calls = {
        "row snapshot, to float32": rows.gather,
        "numpy gather, left in float16": lambda some: plain[some],
        "numpy gather, to float32": lambda some: plain[some].astype(np.float32),
    }
    asked = lambda: rng.integers(0, videos, CANDIDATES, dtype=np.int32)  # noqa: E731
    report.beside("rows", side_by_side(calls, asked, 3 * times), at_most=1.2)


def feast(report: Report, redis: RedisFeatures, server: RedisServer, videos: int, times: int) -> None:
    """Feast's own store holds fewer videos than ours here, which is to its advantage."""
    rng = np.random.default_rng(3)
    ours = PackedFeatures(redis, {VIEW: LAYOUT})
    with tempfile.TemporaryDirectory() as folder:
        stock = _feast_redis.Stock(Path(folder), server.port, names(np.arange(videos)), features_of(videos))
        asked = lambda: names(rng.choice(videos, CANDIDATES, replace=False))  # noqa: E731
        calls = {
            "ours over Redis, uncached": lambda ids: ours.read_matrix(VIEW, ids),
            f"Feast's Redis store, {videos:,} videos": stock.read,
        }
        report.beside("feast_stock", side_by_side(calls, asked, times), at_least=20.0)
        stock.precompute()
        calls = {
            "ours over Redis, uncached": lambda ids: ours.read_matrix(VIEW, ids),
            f"Feast's precompute_online, {videos:,} videos": stock.read_precomputed,
        }
        report.beside("feast_precomputed", side_by_side(calls, asked, times), at_least=8.0)


def zipf(videos: int, exponent: float) -> Callable[[], Ids]:
    """Draws ids whose popularity falls as rank^-exponent, the ranks spread over all ids."""
    rng = np.random.default_rng(1)
    share = np.cumsum(np.arange(1, videos + 1, dtype=np.float64) ** -exponent)
    order = rng.permutation(videos)
    return lambda: names(order[np.searchsorted(share, rng.random(CANDIDATES) * share[-1])])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--videos", type=int, default=1_000_000)
    options.add_argument("--feast-videos", type=int, default=20_000, help="Feast writes one a millisecond")
    options.add_argument("--times", type=int, default=400, help="calls of each; of Feast a fiftieth")
    options.add_argument("--zipf", type=float, default=1.1, help="exponent of the ids' popularity")
    given = options.parse_args()
    report, draws = Report(), np.random.default_rng(4)
    uniform = lambda: names(draws.choice(given.videos, CANDIDATES, replace=False))  # noqa: E731
    uniform = drawn(uniform, 200)
    with redis_server() as server, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        redis, lmdb = RedisFeatures(server.url()), LmdbFeatures(root / "online")
        before = server.client().info("memory")["used_memory"]
        fill(report, {"Redis": redis, "LMDB": lmdb}, root, given.videos)
        weigh(report, before, server, root, given.videos)
        redis_by_id(report, redis, server, uniform, given.times)
        near_cache(report, redis, zipf(given.videos, given.zipf), given.times)
        lmdb_by_id(report, lmdb, root, uniform, given.times)
        by_row(report, root, given.videos, given.times)
        feast(report, redis, server, min(given.feast_videos, given.videos), max(5, given.times // 50))
        redis.close()
        lmdb.close()
    Console().print(report.table)
    if given.json:
        given.json.write_text(json.dumps(report.figures, indent=1))


def drawn(draw: Callable[[], Ids], number: int) -> Callable[[], Ids]:
    """``draw`` beforehand, over and over."""
    sets, turn = [draw() for _ in range(number)], count()
    return lambda: sets[next(turn) % number]


if __name__ == "__main__":
    main()
