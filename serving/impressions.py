"""What was shown goes back into the event log as impressions, after the answer has left."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, Full, Queue
from threading import Event as Flag
from threading import Thread
from uuid import uuid4

from upnext.contracts import Event, EventType
from upnext.errors import StoreError
from upnext.ports import EventLog

WAITING = 10_000
"""Answers that may wait to be written; beyond that they are dropped and counted."""
TOGETHER = 200
"""Answers that are written as one append."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """One answer that a viewer got; propensities beside video_ids, in the order of the slate."""

    user_id: str
    request_id: str
    surface: str
    at: datetime
    video_ids: Sequence[str]
    propensities: Sequence[float]
    session_id: str | None = None
    device: str | None = None
    region: str | None = None

    def events(self) -> list[Event]:
        """One impression per place."""
        pairs = zip(self.video_ids, self.propensities, strict=True)
        return [
            Event.model_construct(
                event_id=str(uuid4()),
                user_id=self.user_id,
                event_type=EventType.IMPRESSION,
                video_id=video_id,
                watch_duration_ms=None,
                query=None,
                timestamp=self.at,
                session_id=self.session_id,
                request_id=self.request_id,
                surface=self.surface,
                position=position,
                device=self.device,
                region=self.region,
                propensity=propensity,
            )
            for position, (video_id, propensity) in enumerate(pairs)
        ]


class ImpressionLog:
    """Writes impressions from a thread of its own, so that no answer waits for them."""

    def __init__(
        self,
        event_log: EventLog,
        on_drop: Callable[[int], None] = lambda events: None,
        unwanted: Callable[[Shown], bool] = lambda shown: False,
    ) -> None:
        """``on_drop`` hears how many impressions could not be written; ``unwanted`` ones are not written."""
        self._log, self._on_drop, self._unwanted = event_log, on_drop, unwanted
        self._waiting: Queue[Shown] = Queue(WAITING)
        self._stop = Flag()
        self._thread = Thread(target=self._run, name="impressions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, shown: Shown) -> None:
        try:
            self._waiting.put_nowait(shown)
        except Full:
            self._on_drop(len(shown.video_ids))

    def stop(self) -> None:
        """Write what waits, then end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self.flush()

    def forget(self, user_id: str) -> int:
        """Drop what waits of one user; says how many impressions."""
        with self._waiting.mutex:
            held = list(self._waiting.queue)
            kept = [shown for shown in held if shown.user_id != user_id]
            self._waiting.queue.clear()
            self._waiting.queue.extend(kept)
        return sum(len(shown.video_ids) for shown in held) - sum(len(shown.video_ids) for shown in kept)

    def flush(self) -> None:
        """Write all that waits now."""
        while self._write(block_s=0.0):
            pass

    def _run(self) -> None:
        while not self._stop.is_set():
            self._write(block_s=0.2)

    def _write(self, block_s: float) -> bool:
        """One append of what waits; False when nothing did."""
        try:
            first = self._waiting.get(block=block_s > 0, timeout=block_s or None)
        except Empty:
            return False
        batch = [first]
        while len(batch) < TOGETHER and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        events = [event for shown in batch if not self._unwanted(shown) for event in shown.events()]
        try:
            self._log.append(events)
        except StoreError as error:
            log.warning("%d impressions are lost: %s", len(events), error)
            self._on_drop(len(events))
        return True
