"""The consumer: from the event log to watch history and live counts, each event once.

The log's order is the truth. A snapshot binds the counts to the position they hold for, and the watch history
ignores an event_id that it has; so reading again from the snapshot's position counts nothing twice.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from time import monotonic
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import UtcTime
from upnext.errors import StoreError
from upnext.ports import EventLog, WatchHistory

T = TypeVar("T")
GROUP = "live"
BATCH = 5_000
log = logging.getLogger(__name__)


class Live:
    """Applies the log's events, in a thread of its own; requests help it along with :meth:`catch_up`."""

    def __init__(
        self,
        event_log: EventLog,
        history: WatchHistory,
        on_events: Callable[[pa.Table], None],
        offset_us: Callable[[], int],
    ) -> None:
        """``on_events`` hears each batch; ``offset_us`` turns the wall clock's times into the release's."""
        self._log, self._history = event_log, history
        self._on_events, self._offset_us = on_events, offset_us
        self._lock, self._stop = Lock(), Flag()
        self._thread: Thread | None = None
        self.position = ""
        self.applied = 0
        """Events applied since the start."""
        self.failing = ""
        """Why the last attempt failed; empty while all is well."""

    def start(self, position: str) -> None:
        """Go on after a position, in a thread of its own."""
        self.position = position
        self._thread = Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread is not None

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def catch_up(self, timeout_s: float) -> bool:
        """Apply all that the log holds by now; False when that fails or takes longer than ``timeout_s``.

        After True, what was appended before the call is in the watch history: clients read their own writes.
        """
        deadline = monotonic() + timeout_s
        while (left := deadline - monotonic()) > 0:
            if not self._lock.acquire(timeout=left):
                return False
            try:
                if self._step() < BATCH:
                    return True
            except StoreError as error:
                self.failing = str(error)
                return False
            finally:
                self._lock.release()
        return False

    def frozen(self, save: Callable[[str], None]) -> None:
        """Call ``save`` with the position while nothing is being applied, then commit the position."""
        with self._lock:
            save(self.position)
            if self.position:
                self._log.commit(GROUP, self.position)

    def paused(self, work: Callable[[], T]) -> T:
        """The result of ``work``, done while nothing is being applied."""
        with self._lock:
            return work()

    def _step(self) -> int:
        """Apply one batch; says how many events it had. Needs the lock."""
        batch = self._log.read(self.position, BATCH)
        if batch.events.num_rows:
            events = _shifted(batch.events, self._offset_us())
            self._history.add(events.filter(pc.not_equal(events["event_type"], "impression")))
            self._on_events(events)
        self.position = batch.position
        self.applied += batch.events.num_rows
        return int(batch.events.num_rows)

    def _run(self) -> None:
        pause_s = 0.05
        while not self._stop.is_set():
            try:
                with self._lock:
                    more = self._step() == BATCH
                self.failing, pause_s = "", 0.05
            except Exception as error:  # whatever it is, the next attempt may go better than no consumer
                self.failing, more = str(error) or repr(error), False
                pause_s = min(2 * pause_s, 5.0)
                log.warning("live events wait: %s", error)
            if not more:
                self._stop.wait(pause_s)


def save_state(path: Path, position: str, counts: Mapping[str, object]) -> None:
    """Write position and counts as one, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"position": position, **counts}))
    new.replace(path)


def load_state(path: Path) -> dict[str, object]:
    """What :func:`save_state` wrote; nothing where that can't be read, and the log is read again."""
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _shifted(events: pa.Table, offset_us: int) -> pa.Table:
    if not offset_us:
        return events
    at = events.schema.get_field_index("timestamp")
    moved = pc.add(pc.cast(events["timestamp"], pa.int64()), offset_us).cast(UtcTime)
    return events.set_column(at, events.schema.field(at), moved)
