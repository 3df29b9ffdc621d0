"""The consumer: from the event log to watch history and live counts, each event once.

The log's order is the truth. A snapshot binds the counts to the position they hold for, and the watch history
ignores an event_id that it has; so reading again from the snapshot's position counts nothing twice. What is
kept in memory only, the real-time features, is counted anew at the start from the log's last hour.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import UtcTime
from upnext.errors import UpnextError
from upnext.ports import EventLog, WatchHistory
from upnext.times import HOUR_US, MINUTE_US

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
        on_recall: Callable[[pa.Table], None] = lambda events: None,
    ) -> None:
        """``on_events`` hears each batch, ``on_recall`` once more those of the hour before the start;
        ``offset_us`` turns the wall clock's times into the release's."""
        self._log, self._history = event_log, history
        self._on_events, self._offset_us, self._on_recall = on_events, offset_us, on_recall
        self._lock, self._stop = Lock(), Flag()
        self._thread: Thread | None = None
        self._recall = ("", 0)
        self.position = ""
        self.applied = 0
        """Events applied since the start."""
        self._marks: deque[tuple[int, str, int]] = deque()
        """Time in µs, position and events applied before it, a minute apart: where the last hour begins."""
        self.failing = ""
        """Why the last attempt failed; empty while all is well."""

    def start(self, position: str, recent: Mapping[str, Any] | None = None) -> None:
        """Go on after a position, in a thread of its own; ``recent`` is what :attr:`recent` was there."""
        self.position = position
        if recent:
            self._recall = (str(recent["after"]), int(recent["events"]))
            self._marks.append((0, str(recent["after"]), -int(recent["events"])))
        self._thread = Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    @property
    def recent(self) -> dict[str, object]:
        """Where the events of the last hour begin in the log, and how many there are up to the position."""
        _, after, before = self._marks[0] if self._marks else (0, self.position, self.applied)
        return {"after": after, "events": self.applied - before}

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
            except UpnextError as error:
                self.failing = str(error)
                return False
            finally:
                self._lock.release()
        return False

    def frozen(self, save: Callable[[str], None]) -> None:
        """Call ``save`` with the position while nothing is being applied, then commit the position.

        What was applied is on disk before it.
        """
        with self._lock:
            self._history.flush()
            save(self.position)
            if self.position:
                self._log.commit(GROUP, self.position)

    def paused(self, work: Callable[[], T]) -> T:
        """The result of ``work``, done while nothing is being applied."""
        with self._lock:
            return work()

    def _step(self) -> int:
        """Apply one batch; says how many events it had. Needs the lock."""
        self._look_back()
        batch = self._log.read(self.position, BATCH)
        if batch.events.num_rows:
            self._mark(batch.events)
            events = _shifted(batch.events, self._offset_us())
            done = events.filter(pc.not_equal(events["event_type"], "impression"))
            if done.num_rows:
                self._history.add(done)
            self._on_events(events)
        self.position = batch.position
        self.applied += batch.events.num_rows
        return int(batch.events.num_rows)

    def _mark(self, events: pa.Table) -> None:
        """Remember where a minute begins, and forget what lies more than an hour before the newest event."""
        newest = pc.max(pc.cast(events["timestamp"], pa.int64())).as_py()
        if not self._marks or newest - self._marks[-1][0] >= MINUTE_US:
            self._marks.append((newest, self.position, self.applied))
        while len(self._marks) > 1 and self._marks[1][0] < newest - HOUR_US - MINUTE_US:
            self._marks.popleft()

    def _look_back(self) -> None:
        """Let the events of the hour before the start be counted anew. Needs the lock."""
        position, left = self._recall
        while left > 0:
            batch = self._log.read(position, min(left, BATCH))
            if not batch.events.num_rows:
                break
            self._on_recall(_shifted(batch.events, self._offset_us()))
            position, left = batch.position, left - batch.events.num_rows
            self._recall = (position, left)

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
