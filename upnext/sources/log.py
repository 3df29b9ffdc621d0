"""The platform's own event log as a source: ``log:`` is what the service has collected."""

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from upnext.errors import ConfigError
from upnext.settings import Settings
from upnext.stores import connect

GROUP = "ingest"
"""The group of consumers whose position in the log is ours."""
_BATCH = 50_000
_ANSWERS = 1_000
"""Answers whose features are held at once: some 30 MB."""


class LogSource:
    """Events and logged features from where the last ingest ended; videos and users as they are now."""

    timed = True

    def __init__(self, rest: str, settings: Settings) -> None:
        if rest:
            raise ConfigError(f"source 'log:{rest}': write log: alone; UPNEXT_EVENT_LOG_URL says where")
        self.settings = settings
        self.dataset = settings.state.name
        self._read: list[tuple[str, datetime]] = []
        """For each batch read: the position after it, and its newest event's time."""
        self._features_read = ""
        """Position in the feature log after what was read of it."""

    def videos(self) -> Iterator[pa.Table]:
        with connect(self.settings) as stores:
            yield from stores.catalogue.scan()

    def users(self) -> Iterator[pa.Table]:
        with connect(self.settings) as stores:
            yield from stores.profiles.scan()

    def events(self, since: datetime | None = None) -> Iterator[pa.Table]:
        self._read = []
        with connect(self.settings) as stores:
            position = stores.event_log.committed(GROUP)
            while len((batch := stores.event_log.read(position, _BATCH)).events):
                position = batch.position
                self._read.append((position, pc.max(batch.events["timestamp"]).as_py()))
                yield batch.events

    def commit(self, until: datetime | None) -> None:
        """Go on next time after the batches that lie wholly before ``until``; None: after all."""
        done = ""
        for position, newest in self._read:
            if until is not None and newest >= until:
                break
            done = position
        if done:
            with connect(self.settings) as stores:
                stores.event_log.commit(GROUP, done)

    def logged_features(self) -> Iterator[pa.Table]:
        with connect(self.settings) as stores:
            self._features_read = stores.feature_log.committed(GROUP)
            while len((batch := stores.feature_log.read(self._features_read, _ANSWERS)).rows):
                yield batch.rows
                self._features_read = batch.position

    def commit_features(self, oldest: datetime) -> None:
        with connect(self.settings) as stores:
            if self._features_read:
                stores.feature_log.commit(GROUP, self._features_read)
            stores.feature_log.purge(oldest)
