"""Step ``materialise``: newest features, catalogue, profiles and recent engagement -> the online stores.

Features are written as packed matrices. Feast's own ``store.materialize`` puts the same bytes there through a
protobuf per value (docs/adr/0003-feature-store.md has both times); Feast is told of the interval either way.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from feature_repo.layout import layouts
from feature_repo.offline import snapshot, snapshots
from feature_repo.packed import PackedFeatures
from feature_repo.repo import PROJECT, feature_store
from feature_repo.specs import VIEWS
from upnext.contracts import EVENTS, USERS, VIDEOS
from upnext.errors import MissingData
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import Stores

if TYPE_CHECKING:
    import feast

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATE = timedelta(days=3)
"""How late an event may reach the lake and still be found without reading all of them again."""
ROWS = 50_000
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
    on after a kill, writes the same values to the same keys.

    Returns
    -------
    Rows written: ``user_features``, ``video_features``, ``videos``, ``users``, ``events``.
    """
    marks = _Marks(settings.state / "materialised.json")
    lake = stores.lake
    counts = {}
    store = feature_store(settings)
    packed = PackedFeatures(stores.online_features, layouts())
    for view in VIEWS:
        counts[view] = _features(lake, store, packed, view, until, marks)
        progress(int(sum(counts.values())), None)
    for table, schema, port in (("videos", VIDEOS, stores.catalogue), ("users", USERS, stores.profiles)):
        counts[table] = 0.0
        if marks.is_new(table, lake.version(table)):
            rows = lake.read(table, schema.names).cast(schema)
            for start in range(0, rows.num_rows, ROWS):
                port.bring(rows.slice(start, ROWS))
                counts[table] += min(ROWS, rows.num_rows - start)
                progress(int(sum(counts.values())), None)
            marks.set(table, lake.version(table))
    counts["events"] = _history(stores, settings, until, marks, lambda new: progress(new, None))
    return counts


def _features(
    lake: Lake,
    store: "feast.FeatureStore",
    packed: PackedFeatures,
    view: str,
    until: datetime,
    marks: "_Marks",
) -> float:
    """Write the newest snapshot of a view at or before ``until``; says how many entities."""
    taken = [at for at in snapshots(lake, view) if at <= until]
    if not taken:
        raise MissingData(f"no snapshot of {view} before {until.isoformat()}: run `upnext step features`")
    at = taken[-1]
    mark = f"{packed.layouts[view].hash[:12]} {at.isoformat()}"
    if not marks.is_new(view, mark) and packed.count(view):
        return 0.0
    ids, rows = snapshot(lake, view, at)
    packed.write_matrix(view, ids, rows, (at - EPOCH) // timedelta(microseconds=1))
    registered = store.get_feature_view(view)
    store.registry.apply_materialization(registered, PROJECT, taken[0], at)
    marks.set(view, mark)
    return float(len(ids))


def _history(
    stores: Stores, settings: Settings, until: datetime, marks: "_Marks", progress: Callable[[int], None]
) -> float:
    """Add engagement of the last days before ``until`` to the watch history; says how much was new."""
    mark = f"{stores.lake.version('events')} {until.isoformat()}"
    if not marks.is_new("events", mark):
        return 0.0
    since = until - timedelta(days=settings.history_days)
    reached = marks.get("events_until")
    if reached is not None:
        since = max(since, datetime.fromisoformat(str(reached)) - LATE)
    time = ds.field("timestamp")
    wanted = (time >= since.astimezone(UTC)) & (time < until.astimezone(UTC))
    wanted &= ds.field("event_type") != "impression"
    added = 0
    scanner = stores.lake.scan("events").scanner(columns=EVENTS.names, filter=wanted, batch_size=ROWS)
    for batch in scanner.to_reader():
        if batch.num_rows:
            added += stores.history.add(pa.Table.from_batches([batch]))
            progress(added)
    marks.set("events_until", until.isoformat())
    marks.set("events", mark)
    return float(added)


class _Marks:
    """What was brought over already, in a JSON file that is replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._marks: dict[str, str | int] = json.loads(file.read_text()) if file.is_file() else {}

    def get(self, name: str) -> str | int | None:
        return self._marks.get(name)

    def is_new(self, name: str, value: str | int) -> bool:
        return self._marks.get(name) != value

    def set(self, name: str, value: str | int) -> None:
        self._marks[name] = value
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._marks, indent=1))
        fresh.replace(self._file)
