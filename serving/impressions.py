"""What was shown goes back into the event log as impressions, after the answer has left.

The features that ranked it go to the feature log the same way. Impressions come first: where the writer
cannot keep up, features are given up long before them.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Empty, Full, Queue
from threading import Event as Flag
from threading import Thread
from zlib import crc32

from uuid6 import uuid7

from serving.feature_log import ShownFeatures, logged
from upnext.contracts import Event, EventType
from upnext.errors import UpnextError
from upnext.ports import EventLog, FeatureLog

WAITING = 10_000
"""Answers that may wait to be written; beyond that they are dropped and counted."""
WITH_FEATURES = 1_000
"""Answers that wait beyond which new ones leave their features behind: about 30 MB of them."""
TOGETHER = 200
"""Answers that are written as one append at most."""
EVERY_S = 0.1
"""Seconds between appends: what answers of that time have in common is done once for all of them."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """One answer that a viewer got; positions and propensities lie beside video_ids."""

    user_id: str
    request_id: str
    surface: str
    at: datetime
    video_ids: Sequence[str]
    positions: Sequence[int]
    propensities: Sequence[float]
    session_id: str | None = None
    device: str | None = None
    region: str | None = None
    features: ShownFeatures | None = None

    def events(self) -> list[Event]:
        """One impression per place."""
        places = zip(self.video_ids, self.positions, self.propensities, strict=True)
        return [
            Event.model_construct(
                event_id=str(uuid7()),
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
            for video_id, position, propensity in places
        ]


class ImpressionLog:
    """Writes impressions and features from a thread of its own, so that no answer waits for them."""

    def __init__(
        self,
        event_log: EventLog,
        feature_log: FeatureLog,
        share: float = 1.0,
        on_drop: Callable[[int], None] = lambda impressions: None,
        on_features_lost: Callable[[int], None] = lambda answers: None,
        unwanted: Callable[[Shown], bool] = lambda shown: False,
    ) -> None:
        """``share`` of the answers, drawn by request_id, have their features logged.

        ``on_drop`` hears how many impressions could not be written, ``on_features_lost`` of how many answers
        the features could not; ``unwanted`` answers are not written.
        """
        self._log, self._on_drop, self._unwanted = event_log, on_drop, unwanted
        self._features, self._on_features_lost = feature_log, on_features_lost
        self._drawn_below = share * 2**32
        self._waiting: Queue[Shown] = Queue(WAITING)
        self._stop = Flag()
        self._thread = Thread(target=self._run, name="impressions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, shown: Shown) -> None:
        if shown.features is not None:
            drawn = crc32(shown.request_id.encode()) < self._drawn_below
            if drawn and self._waiting.qsize() >= WITH_FEATURES:
                self._on_features_lost(1)
                drawn = False
            if not drawn:
                shown = replace(shown, features=None)
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
        while waiting := self._taken():
            self._write([shown for shown in waiting if not self._unwanted(shown)])

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.flush()

    def _taken(self) -> list[Shown]:
        """What waits, ``TOGETHER`` of it at most."""
        taken: list[Shown] = []
        with suppress(Empty):
            while len(taken) < TOGETHER:
                taken.append(self._waiting.get_nowait())
        return taken

    def _write(self, batch: Sequence[Shown]) -> None:
        events = [event for shown in batch for event in shown.events()]
        try:
            self._log.append(events)
        except UpnextError as error:
            log.warning("%d impressions are lost: %s", len(events), error)
            self._on_drop(len(events))
        self._write_features([shown for shown in batch if shown.features is not None])

    def _write_features(self, batch: Sequence[Shown]) -> None:
        if not batch:
            return
        try:
            self._features.append(logged(batch))
        except UpnextError as error:
            log.warning("features of %d answers are lost: %s", len(batch), error)
            self._on_features_lost(len(batch))
