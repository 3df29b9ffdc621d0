"""What Upnext asks of each outside system. An adapter is picked by its URL's scheme (:mod:`upnext.stores`).

Every adapter of a port passes that port's test in ``tests/contract/``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from upnext.contracts import Event

if TYPE_CHECKING:
    import pyarrow.dataset as ds  # brings pandas along, which only the lake is worth

    from upnext.experiments import Experiment


@dataclass(frozen=True)
class EventBatch:
    """Events in the log's order, and where to go on reading after them."""

    events: pa.Table
    """Columns as in :data:`upnext.contracts.EVENTS`."""
    position: str
    """Opaque; pass it to :meth:`EventLog.read` to continue."""


@dataclass(frozen=True)
class FeatureBatch:
    """Logged features in the log's order, and where to go on reading after them."""

    rows: pa.Table
    """Columns as in :data:`upnext.contracts.LOGGED_FEATURES`."""
    position: str
    """Opaque; pass it to :meth:`FeatureLog.read` to continue."""


class Port(Protocol):
    """What every outside system can do."""

    def ping(self) -> str:
        """Answer with a word about the system, such as its version; raise StoreUnavailable when down."""
        ...

    def close(self) -> None:
        """Release files and connections; afterwards the object must not be used."""
        ...


class EventLog(Port, Protocol):
    """A durable, ordered, append-only log of engagement events."""

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Write durably, all or none, then say for each event whether it is new (False: a repeat)."""
        ...

    def read(self, after: str = "", limit: int = 10_000, wait_s: float = 0.0) -> EventBatch:
        """Events after a position (empty: the oldest kept); waits up to ``wait_s`` for the first."""
        ...

    def committed(self, group: str) -> str:
        """Position that a group of consumers last committed; empty when it never did."""
        ...

    def commit(self, group: str, position: str) -> None:
        """Remember that a group has dealt with everything up to a position."""
        ...

    def purge(self, before: datetime) -> int:
        """Drop events older than a time; says how many."""
        ...

    def forget(self, user_id: str) -> int:
        """Remove every event of a user; says how many. Positions stay true."""
        ...


class FeatureLog(Port, Protocol):
    """A durable log of the features that answers were ranked with."""

    def append(self, rows: pa.Table) -> int:
        """Write durably, all or none (columns of LOGGED_FEATURES, the rows of an answer together).

        A request_id that is there already is left alone; says how many answers were new.
        """
        ...

    def read(self, after: str = "", limit: int = 1_000) -> FeatureBatch:
        """Whole answers after a position (empty: the oldest kept), ``limit`` of them at most."""
        ...

    def committed(self, group: str) -> str:
        """Position that a group of consumers last committed; empty when it never did."""
        ...

    def commit(self, group: str, position: str) -> None:
        """Remember that a group has dealt with everything up to a position."""
        ...

    def purge(self, before: datetime) -> int:
        """Drop answers older than a time; says how many."""
        ...

    def forget(self, user_id: str) -> int:
        """Remove everything about a user; says how many answers."""
        ...


class Lake(Port, Protocol):
    """Versioned tables (Delta)."""

    def tables(self) -> list[str]: ...

    def version(self, table: str) -> int:
        """Newest version of a table; -1 when there is none."""
        ...

    def append(
        self, table: str, data: pa.Table | pa.RecordBatchReader, partition_by: Sequence[str] = ()
    ) -> int:
        """Add rows, creating the table when there is none; answers with the new version."""
        ...

    def overwrite(
        self,
        table: str,
        data: pa.Table | pa.RecordBatchReader,
        partition_by: Sequence[str] = (),
        where: str | None = None,
    ) -> int:
        """Replace all rows, or those that a predicate over partition columns selects."""
        ...

    def merge(
        self, table: str, data: pa.Table, on: Sequence[str], *, update: bool, partition_by: Sequence[str] = ()
    ) -> tuple[int, int]:
        """Insert rows whose key is new and, with ``update``, replace the others: (inserted, updated)."""
        ...

    def read(self, table: str, columns: Sequence[str] | None = None, version: int | None = None) -> pa.Table:
        """A whole table or some columns of it; MissingData when there is none."""
        ...

    def scan(self, table: str, version: int | None = None) -> "ds.Dataset":
        """A lazy Arrow data set over a table, for engines that push filters down."""
        ...

    def partitions(self, table: str, column: str) -> list[str]:
        """What a partition column holds, ascending, without reading rows; nothing where there is no table.

        MissingData when the table is not partitioned by it.
        """
        ...

    def uri(self, table: str) -> str:
        """Where a table lies, for tools that open Delta tables themselves."""
        ...

    def delete(self, table: str, where: str) -> int:
        """Remove the rows that a predicate selects; says how many."""
        ...

    def vacuum(self, table: str, keep: timedelta) -> None:
        """Remove the files that no version younger than ``keep`` needs; older versions can no longer be
        read afterwards."""
        ...


class WatchHistory(Port, Protocol):
    """Per user, what was done in the last 90 days; everything except impressions."""

    def add(self, events: pa.Table) -> int:
        """Store events (columns of EVENTS); a repeated event_id counts once; says how many were new.

        They outlive this process at once, and a loss of power after :meth:`flush`.
        """
        ...

    def flush(self) -> None:
        """Bring to disk what was added: who adds from a log calls it before committing a position."""
        ...

    def recent(self, user_id: str, now: datetime, limit: int = 200) -> pa.Table:
        """Newest first, none older than the TTL before ``now``. Columns video_id, event_type,
        watch_duration_ms, query, timestamp."""
        ...

    def forget(self, user_id: str) -> int:
        """Remove everything about a user; says how many events."""
        ...

    def purge(self, now: datetime) -> int:
        """Drop what is older than the TTL; says how many events."""
        ...


class Profiles(Port, Protocol):
    """What is known of users."""

    def put(self, users: pa.Table) -> None:
        """Insert or replace (columns of USERS)."""
        ...

    def bring(self, users: pa.Table) -> None:
        """Insert or replace from the lake: what :meth:`put` wrote is newer and stays."""
        ...

    def get(self, user_id: str) -> Mapping[str, object] | None: ...

    def scan(self, batch: int = 50_000) -> Iterator[pa.Table]:
        """Every user, in batches ordered by id."""
        ...

    def forget(self, user_id: str) -> bool: ...


class Catalogue(Port, Protocol):
    """What is known of videos."""

    def put(self, videos: pa.Table) -> None:
        """Insert or replace (columns of VIDEOS)."""
        ...

    def bring(self, videos: pa.Table) -> None:
        """Insert or replace from the lake: what :meth:`put` wrote is newer and stays."""
        ...

    def get(self, video_ids: Sequence[str]) -> pa.Table:
        """The known ones of these (columns of VIDEOS), in the order asked for."""
        ...

    def barred(self) -> pa.Table:
        """Videos that are not for everybody: all that are not active, and those that :meth:`put` wrote as
        age-restricted. Columns video_id, status, age_restricted."""
        ...

    def told(self, since: datetime, most: int) -> pa.Table:
        """What :meth:`put` wrote at a time or later, by the writers' clocks, newest last.

        Of more than ``most`` videos the newest. Columns of VIDEOS, and ``told_at``.
        """
        ...

    def scan(self, batch: int = 50_000) -> Iterator[pa.Table]:
        """Every video, in batches ordered by id."""
        ...

    def count(self) -> int: ...


class Experiments(Port, Protocol):
    """Definitions of experiments, hold-outs, and who was exposed to what."""

    def put(self, experiment: "Experiment") -> None:
        """Insert or replace, by name."""
        ...

    def all(self) -> Sequence["Experiment"]:
        """Every experiment, also those that have ended, by name."""
        ...

    def hold_out(self, layer: str, share: float) -> None:
        """Keep a share of the units out of a layer's experiments; an empty layer: out of all experiments."""
        ...

    def holdouts(self) -> Mapping[str, float]:
        """Layer -> share."""
        ...

    def expose(self, exposures: pa.Table) -> int:
        """Store exposures (columns of EXPOSURES) durably; says how many were new.

        The first of an experiment, unit and day counts, whatever comes later.
        """
        ...

    def exposures(self, since: str = "") -> pa.Table:
        """Exposures of a UTC day (YYYY-MM-DD) and later, in the order of days."""
        ...

    def forget(self, user_id: str) -> int:
        """Remove a unit's exposures and its place in each experiment's ``overrides``; says how many."""
        ...

    def purge(self, before: str) -> int:
        """Drop exposures of days before one; says how many."""
        ...


class OnlineFeatures(Port, Protocol):
    """One packed value per entity and view; :mod:`feature_repo` knows what the bytes mean."""

    def put(self, view: str, ids: Sequence[str], values: Sequence[bytes]) -> None:
        """Insert or replace. Up to 1,000 values appear at once or not at all; of more, a failure may leave
        the first ones written: write again."""
        ...

    def get(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        """Values in the order of ``ids``; None where there is none. One round trip."""
        ...

    def delete(self, view: str, ids: Sequence[str]) -> int: ...

    def count(self, view: str) -> int: ...

    def drop(self, view: str) -> None:
        """Remove a view with all its values."""
        ...

    def views(self) -> list[str]: ...


@dataclass(frozen=True)
class StoredKey:
    """What is kept of a key to the service (:mod:`upnext.keys` makes and checks them)."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    salt: bytes
    digest: bytes
    created_at: datetime
    revoked_at: datetime | None = None


class Keys(Port, Protocol):
    """Keys to the service."""

    def add(self, key: StoredKey) -> None: ...

    def all(self) -> Sequence[StoredKey]:
        """Oldest first, the revoked ones too."""
        ...

    def revoke(self, key_id: str, at: datetime) -> bool:
        """End a key; False when there is no such key, or it has ended."""
        ...


class Erasures(Port, Protocol):
    """Who was erased and when, by pseudonym (:mod:`upnext.erased`)."""

    def remember(self, person: str, at: datetime) -> None:
        """Note an erasure; of one person the last one counts."""
        ...

    def all(self) -> Mapping[str, datetime]: ...
