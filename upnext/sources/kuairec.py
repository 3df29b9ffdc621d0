"""KuaiRec (Gao et al., CIKM 2022, kuairec.com): Kuaishou's log of a small, densely watched catalogue.

Official layout: each row of ``big_matrix.csv`` is one video played to one user, an impression and, where
play_duration > 0, a watch, joined by a request_id of the row's own. ``small_matrix.csv`` is the authors'
fully observed test set and is left alone.

Pairs layout: ``big_matrix_positives.csv`` has the pairs with watch_ratio ≥ 2, n times each, and no times.
Each becomes n watches of unknown time, laid out by a hash over a time line of ours: those of the split
``train`` over 20 days, those of ``valid`` over the two days after, so that the pipeline's split by time
is the split by user that the file names. ``timed`` is False then.

Captions become titles, topic tags and the lower levels of category become tags, the first level of category
the category.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import QUARANTINE, UtcTime
from upnext.sources.base import Tables, existing_folder, find, find_some, mapped
from upnext.sources.cells import convert
from upnext.sources.checks import typed_rows
from upnext.sources.ids import row_fractions, row_ids
from upnext.sources.rawfiles import read_csv
from upnext.sources.segments import UNKNOWN, segments
from upnext.times import DAY_US

TRAIN_DAYS, VALID_DAYS = 20.0, 2.0
_LOG = {
    "user_id": pa.string(),
    "video_id": pa.string(),
    "play_duration": pa.int64(),
    "timestamp": pa.float64(),
}
_PAIRS = {"user_id": pa.string(), "video_id": pa.string(), "n": pa.int64(), "split": pa.string()}
LOWER_LEVELS = ("second_level_category_name", "third_level_category_name")
_START_US = int(datetime(2020, 7, 5, tzinfo=UTC).timestamp()) * 1_000_000
"""First day of the official log."""


class KuaiRecSource:
    """``kuairec:DIR``."""

    dataset = "kuairec"

    def __init__(self, folder: str) -> None:
        self.folder = existing_folder(folder, "kuairec")
        logs = find(self.folder, "big_matrix.csv")
        self.timed = bool(logs)
        self._logs = logs or find_some(self.folder, "big_matrix.csv", "big_matrix_positives.csv")

    def videos(self) -> Tables:
        refused: list[pa.Table] = []
        yield _videos(self.folder, refused)
        yield from refused

    def users(self) -> Tables:
        for path in find(self.folder, "user_features.csv"):
            yield from mapped(read_csv(path, "users", ["user_id"]), segments)

    def events(self, since: datetime | None = None) -> Tables:
        types, to_events = (_LOG, _watches) if self.timed else (_PAIRS, _laid_out)
        for path in self._logs:
            raw = read_csv(path, "events", list(types), ())
            yield from mapped(typed_rows(raw, types, "events", str(path)), to_events)


def _watches(rows: pa.Table) -> pa.Table:
    """Impressions, and watches of more than 0 ms, from rows of the official log."""
    request = row_ids(rows["user_id"], rows["video_id"], _micros(rows), rows["play_duration"])
    shown = pa.table(
        {
            "user_id": rows["user_id"],
            "video_id": rows["video_id"],
            "timestamp": _micros(rows).cast(UtcTime),
            "request_id": request,
            "event_type": pa.array(["impression"] * len(rows), pa.string()),
            "event_id": row_ids(request, "impression"),
            "watch_duration_ms": pa.nulls(len(rows), pa.int64()),
        }
    )
    played = pc.greater(rows["play_duration"], 0)
    watched = shown.filter(played)
    watched = watched.set_column(4, "event_type", pa.array(["watch"] * len(watched), pa.string()))
    watched = watched.set_column(5, "event_id", row_ids(watched["request_id"], "watch"))
    watched = watched.set_column(6, "watch_duration_ms", rows["play_duration"].filter(played))
    return pa.concat_tables([shown, watched]).sort_by("timestamp")


def _micros(rows: pa.Table) -> pa.ChunkedArray:
    """The log's float seconds as integer microseconds."""
    return pc.round(pc.multiply(rows["timestamp"], 1e6)).cast(pa.int64())


def _laid_out(rows: pa.Table) -> pa.Table:
    """n watches for each pair, at times made from a hash."""
    times = np.clip(rows["n"].to_numpy(), 0, None)
    each = np.repeat(np.arange(len(rows)), times)
    repeat = np.arange(len(each)) - np.repeat(np.cumsum(times) - times, times)
    pairs = rows.take(pa.array(each))
    what = (pairs["user_id"], pairs["video_id"], pairs["split"], pa.array(repeat), "pair")
    valid = np.asarray(pc.equal(pairs["split"], "valid"))
    days = np.where(valid, TRAIN_DAYS + VALID_DAYS * row_fractions(*what), TRAIN_DAYS * row_fractions(*what))
    return pa.table(
        {
            "event_id": row_ids(*what),
            "user_id": pairs["user_id"],
            "video_id": pairs["video_id"],
            "event_type": pa.array(["watch"] * len(pairs), pa.string()),
            "timestamp": pa.array(_START_US + (days * DAY_US).astype(np.int64)).cast(UtcTime),
        }
    )


def _videos(folder: Path, refused: list[pa.Table]) -> pa.Table:
    """All that the side files tell of each video, ten thousand rows or so; unreadable ones go to refused."""
    captions = ["caption", "topic_tag", "first_level_category_name", *LOWER_LEVELS]
    table = _whole(folder, "kuairec_caption_category.csv", captions, refused)
    for name, columns in (
        ("item_categories.csv", ["feat"]),
        ("item_daily_features.csv", ["author_id", "upload_dt", "video_duration"]),
    ):
        table = table.join(_whole(folder, name, columns, refused), "video_id", join_type="full outer")
    table = table.sort_by("video_id")
    feature = pc.list_element(_entries(table["feat"]), 0)
    duration, _ = convert(table["video_duration"], pa.float64())
    return pa.table(
        {
            "video_id": table["video_id"],
            "title": pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(table["caption"]), 0, 500),
            "tags": _entries(_joined(table["topic_tag"], *(table[level] for level in LOWER_LEVELS))),
            "category": pc.coalesce(_known(table["first_level_category_name"]), feature),
            "creator_id": table["author_id"],
            "duration_ms": pc.if_else(pc.greater(duration, 0.0), pc.round(duration).cast(pa.int64()), None),
            "uploaded_at": table["upload_dt"],
        }
    )


def _whole(folder: Path, name: str, columns: Sequence[str], refused: list[pa.Table]) -> pa.Table:
    """video_id and some columns of an optional side file, the first row of each video; empty when absent."""
    schema = pa.schema([(column, pa.string()) for column in ("video_id", *columns)])
    rows = [schema.empty_table()]
    for path in find(folder, name):
        for raw in read_csv(path, "videos", ["video_id"], columns):
            (refused if raw.schema.equals(QUARANTINE) else rows).append(raw)
    table = pa.concat_tables(rows, promote_options="default")
    first = table.group_by("video_id", use_threads=False).aggregate([(c, "first") for c in columns])
    plain = [column.removesuffix("_first") for column in first.column_names]
    return first.rename_columns(plain).select(schema.names)


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_in(column, value_set=pa.array(UNKNOWN)), None, column)


def _joined(first: pa.ChunkedArray, *rest: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text such as ``[a,b]`` with more entries behind it; those that are null or unknown add nothing."""
    inner = pc.fill_null(pc.utf8_trim(first, characters="[] "), "")
    more = [pc.fill_null(_known(column), "") for column in rest]
    return pc.utf8_trim(pc.binary_join_element_wise(inner, *more, ","), characters=", ")


def _entries(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text such as ``[a,b]`` as a list, null when it has no entry."""
    inner = pc.replace_substring_regex(pc.utf8_trim(column, characters="[] "), r"\s*,[\s,]*", ",")
    return pc.split_pattern(pc.if_else(pc.equal(inner, ""), None, inner), ",")
