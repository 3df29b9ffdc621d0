"""``upnext world``: write the simulated platform's catalogue, viewers and log as Parquet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from upnext.errors import StoreReadOnly

if TYPE_CHECKING:
    import pyarrow as pa

    from upnext.world.world import World


@click.command()
@click.option("--users", default=3000, show_default=True, help="Viewers at the start; 0.5% of it join daily.")
@click.option("--videos", default=4000, show_default=True, help="Videos at the start; 0.5% of it daily.")
@click.option("--days", default=21, show_default=True, help="Days of log from 2026-06-01; more only add.")
@click.option("--seed", default=7, show_default=True, help="Another seed is another world.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a sentence.")
def world(users: int, videos: int, days: int, seed: int, out: Path, as_json: bool) -> None:
    """Write the simulated world's videos, users and events to OUT, as Parquet in our own columns.

    `upnext cycle --data files:OUT` reads them back; `--data world:users=…,videos=…` needs no files at all.
    Memory stays bounded whatever the size. docs/world.md says what the world can and cannot prove.
    """
    from upnext.world.config import WorldConfig
    from upnext.world.world import World

    made = World(WorldConfig(users, videos, seed, days))
    began = perf_counter()
    with _writable(out):
        counts = write_world(made, out)
    seconds = round(perf_counter() - began, 1)
    if as_json:
        click.echo(json.dumps({"out": str(out), **counts, "seconds": seconds}))
    else:
        click.echo(
            f"{out}: {counts['videos']:,} videos, {counts['users']:,} users and "
            f"{counts['events']:,} events in {seconds} s"
        )


def write_world(world: "World", out: Path) -> dict[str, int]:
    """Write videos, users and events.parquet below a folder, made when missing; says how many rows of each.

    A file appears under its name only when it is complete.
    """
    from rich.console import Console
    from rich.progress import Progress

    from upnext.contracts import EVENTS, USERS, VIDEOS
    from upnext.world.config import DAY_US, START_US

    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for name, schema, tables, total in (
            ("videos", VIDEOS, world.videos(), world.video_count),
            ("users", USERS, world.users(), world.user_count),
            ("events", EVENTS, world.events(), world.config.days),
        ):
            task = bar.add_task(name, total=total)
            rows = 0
            for table in _written(tables, schema, out / f"{name}.parquet"):
                rows += table.num_rows
                done: float = rows
                if name == "events":
                    done = (table["timestamp"][-1].value - START_US) / DAY_US
                bar.update(task, completed=done)
            counts[name] = rows
    return counts


def _written(tables: Iterator["pa.Table"], schema: "pa.Schema", path: Path) -> Iterator["pa.Table"]:
    """The tables, each once it is in the file."""
    import pyarrow.parquet as pq

    part = path.with_suffix(".parquet.part")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            yield table
    part.replace(path)


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreReadOnly(f"--out {out} cannot be written: {error.strerror or error}") from error
