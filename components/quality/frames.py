"""What the suites look at: four small frames made of the lake and the data set.

``events`` and ``examples`` hold at most SAMPLE rows, drawn by a hash or a seed: the same data gives the same
ones. ``features`` has one row per feature and ``tables`` one per table; their figures are of
all rows, so a suite costs the same for two hundred features of a million videos as for ten of a hundred.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.quality.limits import Range, range_of
from components.quality.shift import psi
from components.tables import query
from feature_repo.offline import snapshot, snapshots
from feature_repo.specs import CREATOR, VIEWS, FeatureSpec
from models.dataset import Dataset, Examples
from upnext.contracts import EVENTS
from upnext.ports import Lake

SAMPLE = 20_000
"""Rows at most of a frame whose rows are looked at one by one."""
WINDOW = timedelta(days=7)
"""Length of the newest window, and of the one before it that it is held against."""
DAY = timedelta(days=1)


def events_frame(lake: Lake, until: datetime, since: datetime) -> pd.DataFrame:
    """A sample of the events in [since, until): EVENTS and ``date``, times in UTC without a zone."""
    drawn = query(
        f"SELECT * FROM events ORDER BY hash(event_id), event_id LIMIT {SAMPLE}",  # noqa: S608
        events=_events(lake, since, until, [*EVENTS.names, "date"]),
    )
    frame = drawn.select([*EVENTS.names, "date"]).to_pandas(types_mapper=_NULLABLE.get)
    if isinstance(
        frame["timestamp"].dtype, pd.DatetimeTZDtype
    ):  # Great Expectations knows times without a zone
        frame["timestamp"] = frame["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None)
    return frame


def examples_frame(data: Dataset) -> pd.DataFrame:
    """A sample of the examples of all parts: ``part``, keys, time, place and labels; nan unknown."""
    most = SAMPLE // max(len(data.examples), 1)
    return pd.concat([_part_frame(name, part, most) for name, part in data.examples.items()])


def features_frame(
    lake: Lake, data: Dataset, names: Mapping[str, Sequence[str]], until: datetime
) -> pd.DataFrame:
    """One row per block and feature: the newest snapshots, and what the examples have of them.

    names: columns of the examples' blocks, by block, as the layouts have them. Columns: block, feature, rows,
    missing and infinite (shares), lowest and highest with the bounds ``low`` and ``high`` that are declared,
    shift (PSI against the snapshot WINDOW earlier; nan where there is none).
    """
    frames = []
    for view in VIEWS.values():
        now = snapshot(lake, view.name, until)[1]
        if view is CREATOR and not len(now):
            continue  # the catalogue names none
        earlier = [at for at in snapshots(lake, view.name) if at <= until - WINDOW]
        before = snapshot(lake, view.name, earlier[-1])[1] if earlier else None
        frames.append(profile(view.name, view.names, now, _ranges(view.features, view.names), before))
    declared = [feature for view in VIEWS.values() for feature in view.features]
    for block, columns in names.items():
        rows = np.concatenate([getattr(part, block) for part in data.examples.values()])
        frames.append(profile(f"examples.{block}", columns, rows, _ranges(declared, columns)))
    return pd.concat(frames, ignore_index=True)


def profile(
    block: str,
    names: Sequence[str],
    values: NDArray[np.float32],
    ranges: Sequence[Range],
    before: NDArray[np.float32] | None = None,
) -> pd.DataFrame:
    """Figures of the columns of a matrix float32[n, d], NaN missing; see :func:`features_frame`."""
    rows = max(len(values), 1)
    finite = np.isfinite(values)
    known = finite.any(axis=0)
    lowest = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
    return pd.DataFrame(
        {
            "block": block,
            "feature": list(names),
            "rows": len(values),
            "missing": np.isnan(values).sum(axis=0) / rows,
            "infinite": np.isinf(values).sum(axis=0) / rows,
            "lowest": np.where(known, lowest, np.nan),
            "low": [each.low for each in ranges],
            "highest": np.where(known, highest, np.nan),
            "high": [each.high for each in ranges],
            "shift": np.nan if before is None else psi(before, values),
        }
    )


def tables_frame(lake: Lake, data: Dataset, until: datetime, refused_share: float) -> pd.DataFrame:
    """One row per table: rows, repeated keys, age of the newest (h), volume against a week before, refused.

    Events are counted over two windows. ``volume`` is the ratio of a day to the same weekday a week before,
    for features of a snapshot to the one a WINDOW earlier; nan where there is nothing to hold it against.
    """
    rows = [_events_row(lake, until) | {"refused_share": refused_share}]
    rows.append({"table": "examples", "rows": sum(len(part) for part in data.examples.values())})
    of_views = [_view_row(lake, name, until) for name in VIEWS]
    rows += [row for row in of_views if row["rows"] or row["table"] != CREATOR.table]
    columns = ["table", "rows", "repeated_keys", "age_h", "volume", "refused_share"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(columns[1:], "float64"))


def _events_row(lake: Lake, until: datetime) -> dict[str, object]:
    events = _events(lake, until - 2 * WINDOW, until, ["event_id", "timestamp"])
    marks = pa.table({"last": [until - DAY], "before": [until - DAY - WINDOW], "after": [until - WINDOW]})
    (found,) = query(
        "SELECT count(*) AS rows, count(*) - count(DISTINCT event_id) AS repeated_keys, "
        "max(timestamp) AS newest, count(*) FILTER (timestamp >= last) AS today, "
        "min(timestamp) <= any_value(before) AS reaches, "
        "count(*) FILTER (timestamp >= before AND timestamp < after) AS week_before FROM events, marks",
        events=events,
        marks=marks,
    ).to_pylist()
    newest = found["newest"]
    return {
        "table": "events",
        "rows": found["rows"],
        "repeated_keys": found["repeated_keys"],
        "age_h": np.nan if newest is None else (until - newest.astimezone(UTC)) / timedelta(hours=1),
        "volume": found["today"] / found["week_before"]
        if found["reaches"] and found["week_before"]
        else np.nan,
    }


def _view_row(lake: Lake, name: str, until: datetime) -> dict[str, object]:
    taken = [at for at in snapshots(lake, name) if at <= until]
    ids = snapshot(lake, name, until)[0]
    earlier = [at for at in taken if at <= until - WINDOW]
    before = len(snapshot(lake, name, earlier[-1])[0]) if earlier else 0
    return {
        "table": VIEWS[name].table,
        "rows": len(ids),
        "repeated_keys": len(ids) - len(set(ids)),
        "age_h": (until - taken[-1]) / timedelta(hours=1),
        "volume": len(ids) / before if before else np.nan,
    }


def _part_frame(name: str, part: Examples, most: int) -> pd.DataFrame:
    places = np.random.default_rng(0).permutation(len(part))[:most]
    columns = {key: getattr(part, key)[places] for key in ("user", "video", "ts", "shown", "position")}
    return pd.DataFrame(
        {"part": name, **columns, **{head: label[places] for head, label in part.labels.items()}}
    )


def _events(lake: Lake, since: datetime, until: datetime, columns: list[str]) -> pa.Table:
    inside = (ds.field("timestamp") >= since.astimezone(UTC)) & (
        ds.field("timestamp") < until.astimezone(UTC)
    )
    return lake.scan("events").to_table(columns=columns, filter=inside & (ds.field("date") >= _day(since)))


def _day(time: datetime) -> str:
    return str(time.astimezone(UTC).date())


def _ranges(features: Sequence[FeatureSpec], names: Sequence[str]) -> list[Range]:
    """Declared ranges in the order of names; what is declared nowhere must only fit its type."""
    declared = {feature.name: feature for feature in features}
    return [range_of(declared.get(name)) for name in names]


_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.float32(): pd.Float32Dtype(),
}
