"""Features as they were: whole snapshots, and the point-in-time join that training reads."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from feature_repo.specs import CREATOR, TIMESTAMP, USER, VIDEO, VIEWS, ViewSpec
from models.columns import codes
from upnext.errors import CorruptData, MissingData, NotFound
from upnext.ports import Lake

if TYPE_CHECKING:
    import feast

SNAPSHOT = "snapshot"
"""Partition column of the feature tables: the snapshot's time as text that sorts as the times do."""
_FORMAT = "%Y%m%dT%H%M%S%fZ"


def snapshot_name(at: datetime) -> str:
    """The partition of a snapshot."""
    return at.astimezone(UTC).strftime(_FORMAT)


def snapshots(lake: Lake, view: str) -> list[datetime]:
    """Times at which features of a view were taken, ascending; empty when there is no table yet.

    Those of a catalogue that names no creator are taken with the videos', and hold none.
    """
    names = lake.partitions(_spec(view).table, SNAPSHOT)
    if not names and view == CREATOR.name:
        return snapshots(lake, VIDEO.name)
    return [datetime.strptime(name, _FORMAT).replace(tzinfo=UTC) for name in names]


def snapshot(lake: Lake, view: str, at: datetime) -> tuple[list[str], NDArray[np.float32]]:
    """The newest snapshot at or before a time: ids, str[n] ascending, and features, float32[n, d].

    MissingData when none is that old.
    """
    spec = _spec(view)
    taken = [time for time in snapshots(lake, view) if time <= at]
    if not taken:
        raise MissingData(
            f"no snapshot of {view} at or before {at:%Y-%m-%dT%H:%M:%SZ}: run `upnext step features`"
        )
    if lake.version(spec.table) < 0:
        return [], np.empty((0, len(spec.names)), np.float32)
    columns = [spec.key, *spec.names]
    table = lake.scan(spec.table).to_table(
        columns=columns, filter=ds.field(SNAPSHOT) == snapshot_name(taken[-1])
    )
    table = table.take(pc.sort_indices(table[spec.key]))
    return table[spec.key].to_pylist(), matrix(table, spec.names)


def aligned(lake: Lake, view: str, at: datetime, ids: Sequence[str]) -> NDArray[np.float32]:
    """Features of given entities as of a time, float32[n, d]; declared defaults for those it lacks."""
    known, rows = snapshot(lake, view, at)
    place = codes(pa.array(ids, pa.string()), known)
    out = np.tile(defaults(view), (len(ids), 1))
    out[place >= 0] = rows[place[place >= 0]]
    return out


def defaults(view: str) -> NDArray[np.float32]:
    """float32[d], what each feature of a view is taken to be where an entity is missing."""
    return np.array([feature.default for feature in _spec(view).features], np.float32)


def point_in_time(
    store: "feast.FeatureStore", user_ids: pa.Array, video_ids: pa.Array, ts: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of users and videos, each row as of its own time: float32[k, du] and float32[k, dv].

    ``ts`` is int64[k], µs since the epoch. A snapshot at that very time counts: it holds what was known
    strictly before. Declared defaults where there is no snapshot old enough.
    """
    if not len(ts):
        return np.empty((0, len(USER.names)), np.float32), np.empty((0, len(VIDEO.names)), np.float32)
    import pandas as pd

    rows = pd.DataFrame(
        {
            USER.key: user_ids.to_pandas(),
            VIDEO.key: video_ids.to_pandas(),
            TIMESTAMP: pd.to_datetime(ts, unit="us", utc=True),
        }
    )
    wanted = [f"{spec.name}:{name}" for spec in (USER, VIDEO) for name in spec.names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ibis calls DuckDB by names on their way out
        table = store.get_historical_features(rows, wanted, full_feature_names=True).to_arrow()
    if table.num_rows != len(ts):
        raise CorruptData(
            f"the point-in-time join made {table.num_rows} rows of {len(ts)}: a snapshot has an entity twice"
        )
    blocks = []
    for spec in (USER, VIDEO):
        block = matrix(table, [f"{spec.name}__{name}" for name in spec.names])
        missing = np.isnan(block)
        np.copyto(block, defaults(spec.name), where=missing)
        blocks.append(block)
    return blocks[0], blocks[1]


def matrix(table: pa.Table, columns: Sequence[str]) -> NDArray[np.float32]:
    """Columns of a table as float32[n, d], nan where null."""
    out = np.empty((table.num_rows, len(columns)), np.float32)
    for place, name in enumerate(columns):
        out[:, place] = pc.fill_null(table[name], np.float32(np.nan)).to_numpy()
    return out


def _spec(view: str) -> ViewSpec:
    if view not in VIEWS:
        raise NotFound(f"no feature view {view!r}: there are {', '.join(VIEWS)}")
    return VIEWS[view]
