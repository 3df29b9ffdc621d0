"""Events a second that the local event log acknowledges, beside one commit for each call.

make bench NAME=event_log
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import perf_counter

from rich.console import Console
from rich.table import Table

from upnext.contracts import Event, EventType
from upnext.stores.sqlite_event_log import SqliteEventLog

GOAL = 5_000
Append = Callable[[Sequence[Event]], object]


def one_at_a_time(append: Append) -> Append:
    """The peer: the same log with callers taking turns, so that each call has a commit of its own."""
    lock = Lock()

    def turn(events: Sequence[Event]) -> object:
        with lock:
            return append(events)

    return turn


def events_per_second(append: Append, threads: int, batch: int, calls: int) -> float:
    """Events acknowledged a second, by ``threads`` callers of ``calls`` batches in all."""
    batches = [[_event() for _ in range(batch)] for _ in range(calls)]
    with ThreadPoolExecutor(threads) as pool:
        start = perf_counter()
        list(pool.map(append, batches))
        return calls * batch / (perf_counter() - start)


def _event() -> Event:
    return Event(user_id="u", event_type=EventType.WATCH, video_id="v", watch_duration_ms=1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--folder", type=Path, default=Path.cwd(), help="on the file system to measure")
    given = options.parse_args()

    table = Table("threads", "events a call", "one commit per call", "group commit", title="events a second")
    figures = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for threads, batch, calls in ((1, 1, 500), (32, 1, 2_000), (1, 100, 200), (8, 100, 400)):
            log = SqliteEventLog(Path(folder) / f"{threads}-{batch}.db")
            peer = events_per_second(one_at_a_time(log.append), threads, batch, calls)
            ours = events_per_second(log.append, threads, batch, calls)
            log.close()
            table.add_row(str(threads), str(batch), f"{peer:,.0f}", f"{ours:,.0f}")
            name, goal = f"event_log.{threads}x{batch}", GOAL if batch == 100 else None
            figure = {"name": name, "value": round(ours), "unit": "events/s", "goal": goal}
            figures.append(figure | {"holds": goal is None or ours >= goal, "peer": round(peer)})
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
