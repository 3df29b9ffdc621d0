"""Real-time features of videos and viewers: counted from the log, read by the ranker, told to others."""

import logging
from collections.abc import Callable
from datetime import timedelta
from threading import Event as Flag

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.layout import spec_layout
from feature_repo.packed import PackedFeatures
from feature_repo.specs import STREAMS, USER_STREAM, VIDEO_STREAM
from feature_repo.stream import LONGEST, StreamEvent
from feature_repo.stream_state import LiveStream, RowSlots
from models.catalogue import Catalogue
from upnext.errors import UpnextError
from upnext.ports import OnlineFeatures
from upnext.times import MINUTE_US

PUBLISH_S = 1.0
"""Seconds at least between two writes of what changed."""
log = logging.getLogger(__name__)


class Streams:
    """The stream views in memory. Safe between threads."""

    def __init__(self) -> None:
        self.videos = LiveStream(VIDEO_STREAM)
        self.users = LiveStream(USER_STREAM)

    def add(self, events: pa.Table, now: int) -> None:
        """Count events (columns of EVENTS) as of ``now`` (µs); those older than an hour count nothing."""
        ts = pc.cast(events["timestamp"], pa.int64())
        fresh = events.filter(pc.greater(ts, now - (LONGEST + 1) * MINUTE_US))
        if not fresh.num_rows:
            return
        told = [
            StreamEvent(kind, at, played or 0)
            for kind, at, played in zip(
                fresh["event_type"].to_pylist(),
                pc.cast(fresh["timestamp"], pa.int64()).to_pylist(),
                fresh["watch_duration_ms"].to_pylist(),
                strict=True,
            )
        ]
        self.videos.apply(fresh["video_id"].to_pylist(), told, now)
        self.users.apply(fresh["user_id"].to_pylist(), told, now)

    def reader(self, catalogue: Catalogue) -> "StreamReader":
        """For requests to one release."""
        return StreamReader(self, self.videos.follow(catalogue))


class StreamReader:
    """Reads by the rows of one catalogue."""

    def __init__(self, streams: Streams, slots: RowSlots) -> None:
        self._streams, self._slots = streams, slots

    def of_videos(self, rows: NDArray[np.int32], now: int) -> NDArray[np.float32]:
        """float32[n, dv] at ``now`` (µs)."""
        return self._streams.videos.of_rows(self._slots, rows, now)

    def of_user(self, user_id: str, now: int) -> NDArray[np.float32]:
        """float32[1, du] at ``now`` (µs)."""
        return self._streams.users.of([user_id], now)


class Publisher:
    """Brings what changed to the online store, so that Feast and other processes see it.

    An entity to whom nothing happened for an hour is removed, which reads as the declared defaults.
    """

    def __init__(self, streams: Streams, port: OnlineFeatures, now: Callable[[], int]) -> None:
        self._streams = {VIDEO_STREAM.name: streams.videos, USER_STREAM.name: streams.users}
        self._packed = PackedFeatures(port, {name: spec_layout(spec) for name, spec in STREAMS.items()})
        self._now = now

    def publish(self) -> int:
        """Write what changed since the last time; says of how many entities. What fails is tried again."""
        written = 0
        for view, stream in self._streams.items():
            now = self._now()
            ids, rows, gone = stream.changes(now)
            try:
                if ids:
                    self._packed.write_matrix(view, ids, rows, now, timedelta(minutes=LONGEST))
                if gone:
                    self._packed.delete(view, gone)
            except UpnextError:
                stream.again(ids, gone)
                raise
            written += len(ids) + len(gone)
        return written

    def run(self, stop: Flag) -> None:
        """Publish once a second until told to stop. A store that fails is tried again; its loss is nobody's
        request's."""
        while not stop.wait(PUBLISH_S):
            try:
                self.publish()
            except UpnextError as error:
                log.warning("real-time features are not published: %s", error)
