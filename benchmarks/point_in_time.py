"""The point-in-time join that training reads, beside DuckDB's bare ASOF join of the same Delta tables.

make bench NAME=point_in_time ARGS="--json FILE"

Ours goes through Feast and ends in matrices with the declared defaults; the peer ends in Arrow columns with
nulls. Both read the tables anew each time, one after the other; before that their answers are compared.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from feature_repo.offline import SNAPSHOT, defaults, matrix, point_in_time, snapshot_name
from feature_repo.repo import feature_store
from feature_repo.specs import USER, VIDEO, ViewSpec
from feature_repo.views import TIMESTAMP
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import connect

START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=12)
TIME = pa.timestamp("us", tz="UTC")
GOAL = 2.0


def ids_of(view: ViewSpec, places: NDArray[np.int64]) -> pa.Array:
    return pa.array([f"{view.key[0]}{place:07d}" for place in places.tolist()])


def fill(lake: Lake, entities: int, snapshots: int) -> None:
    """Snapshots of both views, a partition each as the step writes them."""
    rng = np.random.default_rng(0)
    for view in (USER, VIDEO):
        ids = ids_of(view, np.arange(entities))
        for number in range(snapshots):
            at = START + number * STEP
            columns = {name: rng.random(entities, np.float32) for name in view.names}
            table = pa.table({view.key: ids, **columns, TIMESTAMP: pa.array([at] * entities, TIME)})
            name = pa.array([snapshot_name(at)] * entities)
            lake.append(view.table, table.append_column(SNAPSHOT, name), [SNAPSHOT])


def bare(lake: Lake, users: pa.Array, videos: pa.Array, ts: NDArray[np.int64]) -> pa.Table:
    """Features of each row as of its time, in the rows' order: plain SQL."""
    con = duckdb.connect()
    at = pa.array(ts, pa.timestamp("us")).cast(TIME)
    con.register("rows", pa.table({"place": np.arange(len(ts)), "u": users, "v": videos, "at": at}))
    joins, columns = "", []
    for view, key in ((USER, "u"), (VIDEO, "v")):
        con.register(view.name, lake.scan(view.table))
        joins += f"ASOF LEFT JOIN {view.name} {key}_ ON rows.{key} = {key}_.{view.key} "
        joins += f"AND rows.at >= {key}_.{TIMESTAMP} "
        columns += [f"{key}_.{name} AS {view.name}__{name}" for name in view.names]
    query = f"SELECT {', '.join(columns)} FROM rows {joins} ORDER BY place"  # noqa: S608 (names of our own)
    return con.sql(query).to_arrow_table()


def compare(ours: tuple[NDArray[np.float32], ...], peer: pa.Table) -> None:
    for view, block in zip((USER, VIDEO), ours, strict=True):
        theirs = matrix(peer, [f"{view.name}__{name}" for name in view.names])
        np.testing.assert_array_equal(block, np.where(np.isnan(theirs), defaults(view.name), theirs))


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--rows", type=int, default=300_000)
    options.add_argument("--entities", type=int, default=20_000, help="users, and videos")
    options.add_argument("--snapshots", type=int, default=21)
    options.add_argument("--times", type=int, default=5)
    given = options.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        with connect(settings) as stores:
            lake = stores.lake
            fill(lake, given.entities, given.snapshots)
            users, videos = (
                ids_of(view, rng.integers(0, given.entities + 100, given.rows)) for view in (USER, VIDEO)
            )
            span = int(given.snapshots * STEP / timedelta(microseconds=1))
            since = int(START.timestamp()) * 1_000_000 - span // 20  # some rows are older than all snapshots
            ts = since + rng.integers(0, span, given.rows)
            store = feature_store(settings)
            compare(point_in_time(store, users, videos, ts), bare(lake, users, videos, ts))
            taken = [
                (
                    seconds(lambda: point_in_time(store, users, videos, ts)),
                    seconds(lambda: bare(lake, users, videos, ts)),
                )
                for _ in range(given.times)
            ]
    ours, peer = np.median(np.array(taken), axis=0).tolist()
    ratio = ours / peer
    width = len(USER.names) + len(VIDEO.names)
    table = Table("", "s, median", title=f"{given.rows:,} rows with {width} features as of their times")
    table.add_row("ours, through Feast, to matrices", f"{ours:.2f}")
    table.add_row("DuckDB's bare ASOF join, to Arrow", f"{peer:.2f}")
    table.add_row(f"ratio, goal ≤ {GOAL:g}", f"{ratio:.2f} {'✓' if ratio <= GOAL else '✗'}")
    Console().print(table)
    if given.json:
        figure = {"name": "point_in_time.join", "value": round(ratio, 3), "unit": "×", "goal": GOAL}
        more = {"holds": ratio <= GOAL, "ours_s": round(ours, 3), "peer_s": round(peer, 3)}
        given.json.write_text(json.dumps([figure | more], indent=1))


if __name__ == "__main__":
    main()
