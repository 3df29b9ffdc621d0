"""Step ``materialise``: newest features, catalogue, profiles and recent engagement -> the online stores.

Only what changed since the last time is written, in batches with a mark after each, so that a run that was
killed goes on where it was. Features are written as packed matrices. Feast's own ``store.materialize`` puts
the same bytes there through a protobuf per value (docs/adr/0003-feature-store.md has both times); Feast is
told of the interval either way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.marks import Marks, Value
from components.tables import query
from feature_repo.layout import layouts
from feature_repo.offline import defaults, snapshot, snapshots
from feature_repo.packed import PackedFeatures
from feature_repo.rows import write_rows
from feature_repo.specs import VIDEO_VIEW, VIEWS
from models.columns import codes
from models.layout import FeatureLayout
from upnext.contracts import EVENTS, USERS, VIDEOS
from upnext.errors import DataError, MissingData
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import Stores
from upnext.times import microseconds, moment

if TYPE_CHECKING:
    from feast import FeatureStore

DAY = timedelta(days=1)
LATE = timedelta(days=3)
"""How late an event may reach the lake and still be found without reading all of them again."""
ROWS = 20_000
"""Rows of one batch, the work that a kill can undo."""
EVENT_ROWS = 100_000
"""Events of one batch: the more, the fewer times a page of the history is written."""
GROUP_ROWS = 300_000
"""Events sorted together, so that those of a user come side by side; whole days, one at least."""
Told = Callable[[int, int | None], None]


def materialise(
    stores: Stores,
    settings: Settings,
    until: datetime,
    *,
    progress: Told = lambda done, total: None,
) -> dict[str, float]:
    """Bring the online stores up to ``until``; what is there already is left alone.

    What was done is remembered in a file of the state folder and forgotten with it; doing it again, or going
    on after a kill, ends with the same values under the same keys.

    Returns
    -------
    Rows written: those of each view, ``videos``, ``users``, ``events``; and entities that were ``deleted`` as
    the newest snapshot has none of them.
    """
    run = _Run(stores, settings, until, Marks(settings.state / "materialised.json"), progress)
    counts: dict[str, float] = dict.fromkeys(VIEWS, 0.0)
    deleted = 0
    for view in VIEWS:
        counts[view], gone = run.features(view)
        deleted += gone
    for table, schema, port in (("videos", VIDEOS, stores.catalogue), ("users", USERS, stores.profiles)):
        counts[table] = run.rows(table, schema, port.bring)
    counts["events"] = run.history()
    return counts | {"deleted": float(deleted)}


@dataclass(frozen=True)
class Base:
    """A snapshot as the store has it: ids ascending, float32[n, d], and the same packed, uint8[n, size]."""

    ids: list[str]
    rows: NDArray[np.float32]
    packed: NDArray[np.uint8]
    mark: str
    """Layout, time and digest: a snapshot that was taken anew is another one."""

    @classmethod
    def of(cls, lake: Lake, view: str, layout: FeatureLayout, at: datetime) -> "Base":
        ids, rows = snapshot(lake, view, at)
        packed = layout.pack_array(rows)
        digest = blake2b(packed, digest_size=8)
        digest.update("\n".join(ids).encode())
        return cls(ids, rows, packed, f"{layout.hash[:12]} {at.isoformat()} {digest.hexdigest()}")


@dataclass
class _Run:
    """One run, with what it has told so far."""

    stores: Stores
    settings: Settings
    until: datetime
    marks: Marks
    progress: Told
    done: int = 0

    def features(self, view: str) -> tuple[float, int]:
        """Write what the newest snapshot of a view changes: entities written, and deleted."""
        lake, packed = self.stores.lake, PackedFeatures(self.stores.online_features, layouts())
        taken = [at for at in snapshots(lake, view) if at <= self.until]
        if not taken:
            raise MissingData(
                f"no snapshot of {view} before {self.until.isoformat()}: run `upnext step features`"
            )
        at, new = taken[-1], Base.of(lake, view, packed.layouts[view], taken[-1])
        held = packed.count(view) > 0
        if held and self.marks.get(view) == new.mark:
            return 0.0, 0
        bases = self._bases(view, packed.layouts[view], new.mark) if held else None
        changed, gone = changes(new, bases or ())
        deleted = packed.delete(view, gone) if gone else 0
        if bases is None or self._broken_off(view, new.mark):
            self.marks.forget(view)
            changed[:] = True
        places = np.flatnonzero(changed)
        written = 0
        for part in self.marks.batches(view, new.mark, len(places), ROWS):
            batch = places[part]
            packed.write_matrix(view, [new.ids[place] for place in batch], new.rows[batch], microseconds(at))
            written += len(batch)
            self._tell(len(batch))
        if view == VIDEO_VIEW:
            layout, fallback = packed.layouts[view], defaults(view)
            write_rows(self.settings.state, view, layout, at, new.ids, new.rows, fallback)
        self._register(view, taken[0], at)
        self.marks.reach(view, new.mark)
        return float(written), deleted

    def rows(self, table: str, schema: pa.Schema, put: Callable[[pa.Table], None]) -> float:
        """Write the rows of a table that are not as they were when it was last brought over."""
        version = self.stores.lake.version(table)
        if self._broken_off(table, version):
            self.marks.forget(table)
        before = self.marks.get(table)
        if before == version:
            return 0.0
        if before is None:
            rows = self.stores.lake.read(table, schema.names, version)
        else:
            rows = changed_rows(self.stores.lake, table, schema, int(before), version)
        rows = rows.cast(schema).sort_by(schema.names[0])
        written = 0
        for part in self.marks.batches(table, version, rows.num_rows, ROWS):
            batch = rows.slice(part.start, part.stop - part.start)
            put(batch)
            written += batch.num_rows
            self._tell(batch.num_rows)
        self.marks.reach(table, version)
        return float(written)

    def history(self) -> float:
        """Add engagement of the last days before ``until`` to the watch history; says how much was new."""
        mark = f"{self.stores.lake.version('events')} {self.until.isoformat()}"
        if self.marks.get("events") == mark:
            return 0.0
        since = self.until - timedelta(days=self.settings.history_days)
        reached = self.marks.get("events_until")
        if reached is not None:
            since = max(since, datetime.fromisoformat(str(reached)) - LATE)
        partial = self.marks.partial("events")
        if partial is not None and partial[0] == mark:
            since = moment(partial[1])
        added = 0
        for end, events in _by_days(self.stores.lake, since, self.until):
            for start in range(0, events.num_rows, EVENT_ROWS):
                batch = events.slice(start, EVENT_ROWS)
                added += self.stores.history.add(batch)
                self._tell(batch.num_rows)
            self.marks.towards("events", mark, microseconds(end))
        self.marks.reach("events_until", self.until.isoformat())
        self.marks.reach("events", mark)
        return float(added)

    def _bases(self, view: str, layout: FeatureLayout, mark: str) -> list[Base] | None:
        """Snapshots of which the store may hold values: the last one, and one that was broken off.

        None where the lake no longer has one of them as it was.
        """
        partial = self.marks.partial(view)
        found = dict.fromkeys([self.marks.get(view), partial[0] if partial is not None else None])
        bases = []
        for held in (str(value) for value in found if value is not None and value != mark):
            try:
                base = Base.of(self.stores.lake, view, layout, datetime.fromisoformat(held.split()[1]))
            except MissingData:
                return None
            if base.mark != held:
                return None
            bases.append(base)
        return bases

    def _broken_off(self, name: str, value: Value) -> bool:
        """Whether a run towards another value was killed: nobody knows what of it is there."""
        partial = self.marks.partial(name)
        return partial is not None and partial[0] != value

    def _register(self, view: str, first: datetime, last: datetime) -> None:
        """Tell Feast's registry of the interval."""
        told = self.feast.get_feature_view(view)
        self.feast.registry.apply_materialization(told, self.feast.project, first, last)

    @cached_property
    def feast(self) -> "FeatureStore":
        """Feast takes seconds to load, so only where there is something to tell it."""
        from feature_repo.repo import feature_store

        return feature_store(self.settings)

    def _tell(self, rows: int) -> None:
        self.done += rows
        self.progress(self.done, None)


def changes(new: Base, bases: Sequence[Base]) -> tuple[NDArray[np.bool_], list[str]]:
    """Which entities a snapshot changes, bool[n], and the ids that it has no more.

    An entity is as it was when each base has its bytes; without a base all are changed.
    """
    changed = np.full(len(new.ids), not bases)
    column = pa.array(new.ids, pa.string())
    gone: set[str] = set()
    for base in bases:
        place = codes(column, base.ids)
        changed |= place < 0
        known = np.flatnonzero(~changed)
        changed[known] = (base.packed[place[known]] != new.packed[known]).any(axis=1)
        gone.update(base.ids)
    return changed, sorted(gone.difference(new.ids))


def changed_rows(lake: Lake, table: str, schema: pa.Schema, before: int, version: int) -> pa.Table:
    """Rows of a version of a table that an earlier version does not have as they are; all if that is gone."""
    new = lake.read(table, schema.names, version)
    try:
        old = lake.read(table, schema.names, before)
    except DataError:
        return new
    return query("SELECT * FROM new EXCEPT SELECT * FROM old", new=new, old=old)


def _by_days(lake: Lake, since: datetime, until: datetime) -> Iterator[tuple[datetime, pa.Table]]:
    """Engagement of whole days in groups of at least GROUP_ROWS, by user, and where each group ends."""
    events, time = lake.scan("events"), ds.field("timestamp")
    engaged = ds.field("event_type") != "impression"
    parts: list[pa.Table] = []
    start = since.astimezone(UTC)
    while start < until:
        end = min(start.replace(hour=0, minute=0, second=0, microsecond=0) + DAY, until.astimezone(UTC))
        part = events.to_table(columns=EVENTS.names, filter=engaged & (time >= start) & (time < end))
        parts.append(part)
        if end >= until or sum(map(len, parts)) >= GROUP_ROWS:
            order = [(name, "ascending") for name in ("user_id", "timestamp", "event_id")]
            yield end, pa.concat_tables(parts).sort_by(order)
            parts = []
        start = end
