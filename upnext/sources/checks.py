"""Whole tables held against the contract at once: rows that keep it, and rows for the quarantine.

No row is lost: ``good`` and ``refused`` together have as many rows as came in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upnext.contracts import EVENTS, QUARANTINE, USERS, VIDEOS, EventType
from upnext.sources.base import Tables
from upnext.sources.cells import NAMES, Mask, convert
from upnext.sources.ids import row_ids

Name = Literal["events", "videos", "users"]
Reasons = NDArray[np.object_]

SCHEMAS: dict[Name, pa.Schema] = {"events": EVENTS, "videos": VIDEOS, "users": USERS}
REQUIRED: dict[Name, tuple[str, ...]] = {
    "events": ("user_id", "event_type", "timestamp"),
    "videos": ("video_id",),
    "users": ("user_id",),
}
"""Columns that a file must have; of the others, an absent one is null."""
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Nobody streamed video before; an earlier time is a unit or a zero gone wrong."""
_DAY_MS = 86_400_000
_DEFAULTS: dict[str, object] = {"title": "", "age_restricted": False, "status": "active"}
_DEFAULTS |= {"tags": [], "topics": [], "segments": [], "blocked_regions": []}
_DEFAULTS |= {"made_for_kids": False, "kids_mode": False}


@dataclass(frozen=True)
class Checked:
    """One table, split."""

    good: pa.Table
    """Rows that keep the contract, in its schema and order."""
    refused: pa.Table
    """The others, in the QUARANTINE schema."""


@dataclass(frozen=True)
class Rule:
    """What must not be: ``broken`` says for a typed table which rows are at fault, bool[n] or null."""

    reason: str
    broken: Callable[[pa.Table], pa.Array | pa.ChunkedArray | Mask]


def split(
    table: pa.Table | pa.RecordBatch, name: Name, source: str, latest: datetime | None = None
) -> Checked:
    """Cast a table to the schema of ``name`` and part the rows that break the contract from the others.

    source is noted beside each refused row; an event later than ``latest`` is refused. Columns beyond the
    contract's are dropped. Events without an event_id get one from their content.
    """
    raw = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    schema = SCHEMAS[name]
    if raw.schema.equals(QUARANTINE):
        return Checked(schema.empty_table(), raw)
    typed, reasons = _cast(raw, schema)
    for rule in _rules(name, latest):
        _note(reasons, rule.broken(typed), rule.reason)
    good, refused = _part(raw, typed, reasons, name, source)
    return Checked(_complete(good, schema), refused)


def quarantine(rows: pa.Table, name: str, reasons: Sequence[str], source: str) -> pa.Table:
    """Rows as the quarantine keeps them: each as JSON, as it came, with its reason."""
    as_json = [orjson.dumps(row, default=str).decode() for row in rows.to_pylist()]
    columns = [[name] * len(as_json), list(reasons), as_json, [source] * len(as_json)]
    return pa.table(columns, schema=QUARANTINE)


def typed_rows(tables: Tables, types: dict[str, pa.DataType], name: Name, source: str) -> Tables:
    """Raw tables cast to the columns and types named, none of which may be null; the others quarantined."""
    for raw in tables:
        if raw.schema.equals(QUARANTINE):
            yield raw
            continue
        typed, reasons = _cast(raw, pa.schema(types))
        for column in types:
            _note(reasons, typed[column].is_null(), f"{column} is missing")
        yield from (part for part in _part(raw, typed, reasons, name, source) if len(part))


def part(typed: pa.Table, rules: Sequence[Rule], name: str, source: str) -> Checked:
    """Part the rows of a typed table by rules of one's own; ``good`` keeps the table's columns."""
    reasons = np.full(typed.num_rows, "", object)
    for rule in rules:
        _note(reasons, rule.broken(typed), rule.reason)
    return Checked(*_part(typed, typed, reasons, name, source))


def _part(
    raw: pa.Table, typed: pa.Table, reasons: Reasons, name: str, source: str
) -> tuple[pa.Table, pa.Table]:
    """Typed rows without a reason, and raw rows with one as the quarantine keeps them."""
    bad = (reasons != "").astype(bool)
    if not bad.any():
        return typed, QUARANTINE.empty_table()
    return typed.filter(pa.array(~bad)), quarantine(raw.filter(pa.array(bad)), name, reasons[bad], source)


def _cast(raw: pa.Table, schema: pa.Schema) -> tuple[pa.Table, Reasons]:
    """All of a schema's columns, null where absent, and for each row the first cast that failed or ""."""
    reasons = np.full(raw.num_rows, "", object)
    columns = []
    for field in schema:
        if field.name in raw.column_names:
            column, failed = convert(raw[field.name], field.type)
            _note(reasons, failed, f"{field.name} is not {NAMES[field.type]}")
        else:
            column = pa.nulls(raw.num_rows, field.type)
        columns.append(column)
    return pa.table(columns, names=schema.names), reasons


def _note(reasons: Reasons, broken: pa.Array | pa.ChunkedArray | Mask, reason: str) -> None:
    """Give rows that are at fault, and have no reason yet, this one."""
    if not isinstance(broken, np.ndarray):
        broken = np.asarray(pc.fill_null(broken, False))
    if broken.any():
        reasons[broken & (reasons == "")] = reason


def _complete(typed: pa.Table, schema: pa.Schema) -> pa.Table:
    """Defaults for the columns that have one, ids for events without."""
    columns = []
    for field in schema:
        column = typed[field.name]
        if column.null_count and field.name == "event_id":
            content = [typed[other] for other in schema.names if other != "event_id"]
            column = pc.coalesce(column, row_ids(*[_hashable(other) for other in content]))
        elif column.null_count and field.name in _DEFAULTS:
            column = _fill(column, _DEFAULTS[field.name])
        columns.append(column)
    return pa.table(columns, schema=schema)


def _hashable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_floating(column.type) else column


def _fill(column: pa.ChunkedArray, default: object) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(column.is_valid(), column, pa.scalar(default, column.type))


# ---- the rules --------------------------------------------------------------------------------------


def _rules(name: Name, latest: datetime | None) -> list[Rule]:
    required = [Rule(f"{column} is missing", _missing(column)) for column in REQUIRED[name]]
    if name == "videos":
        return [*required, *_VIDEOS]
    if name == "users":
        return [*required, *_USERS]
    future = [Rule("timestamp is in the future", _above("timestamp", latest))] if latest else []
    return [*required, *_EVENTS, *future]


def _missing(column: str) -> Callable[[pa.Table], pa.ChunkedArray]:
    return lambda table: table[column].is_null()


def _above(column: str, bound: object) -> Callable[[pa.Table], pa.ChunkedArray]:
    return lambda table: pc.greater(table[column], pa.scalar(bound, table[column].type))


def _below(column: str, bound: object) -> Callable[[pa.Table], pa.ChunkedArray]:
    return lambda table: pc.less(table[column], pa.scalar(bound, table[column].type))


def _text(column: str, limit: int) -> list[Rule]:
    return [
        Rule(
            f"{column} is longer than {limit} characters",
            lambda table: pc.greater(pc.utf8_length(table[column]), limit),
        ),
        Rule(f"{column} has a NUL character", lambda table: pc.match_substring(table[column], "\0")),
    ]


def _texts(limit: int, *columns: str) -> list[Rule]:
    return [rule for column in columns for rule in _text(column, limit)]


def _none_of(column: str, values: Sequence[str]) -> Rule:
    return Rule(
        f"{column} is none of {', '.join(values)}",
        lambda table: pc.and_(
            table[column].is_valid(), pc.invert(pc.is_in(table[column], value_set=pa.array(values)))
        ),
    )


def _tokens(column: str, most: int) -> list[Rule]:
    def broken(table: pa.Table) -> Mask:
        lists = table[column].combine_chunks()
        entries = pc.list_flatten(lists)
        sizes = np.asarray(pc.fill_null(pc.utf8_length(entries), 0))
        odd = np.asarray(pc.fill_null(pc.match_substring(entries, "\0"), False))
        rows = np.asarray(pc.list_parent_indices(lists))
        return np.bincount(rows[(sizes < 1) | (sizes > 64) | odd], minlength=len(lists)) > 0

    return [
        Rule(
            f"{column} has more than {most} entries",
            lambda t: pc.greater(pc.list_value_length(t[column]), most),
        ),
        Rule(
            f"{column} has an entry that is empty, longer than 64 characters or has a NUL character", broken
        ),
    ]


def _search_without_query(table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.equal(table["event_type"], "search"), table["query"].is_null())


def _nothing_acted_upon(table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.not_equal(table["event_type"], "search"), table["video_id"].is_null())


_EVENTS = [
    _none_of("event_type", [kind.value for kind in EventType]),
    Rule("video_id is missing: only a search has none", _nothing_acted_upon),
    Rule("query is missing: a search carries what was searched for", _search_without_query),
    Rule("timestamp is before 1990", _below("timestamp", EARLIEST)),
    Rule("watch_duration_ms is negative", _below("watch_duration_ms", 0)),
    Rule("watch_duration_ms is more than a day", _above("watch_duration_ms", _DAY_MS)),
    Rule("position is negative", _below("position", 0)),
    Rule("position is above 10000", _above("position", 10_000)),
    Rule("propensity is above 1", _above("propensity", 1.0)),
    Rule("propensity is not above 0", lambda table: pc.less_equal(table["propensity"], 0.0)),
    *_texts(128, "event_id", "user_id", "video_id", "session_id", "request_id"),
    *_texts(64, "surface", "device", "region"),
    *_text("query", 500),
]
_VIDEOS = [
    _none_of("status", ["active", "blocked", "deleted"]),
    Rule("duration_ms is not above 0", lambda table: pc.less_equal(table["duration_ms"], 0)),
    Rule("duration_ms is more than a day", _above("duration_ms", _DAY_MS)),
    *_texts(128, "video_id", "creator_id"),
    *_texts(64, "category", "language", "region"),
    *_text("title", 500),
    *_text("thumbnail_url", 2_000),
    *_tokens("tags", 100),
    *_tokens("blocked_regions", 300),
]
_USERS = [
    *_text("user_id", 128),
    *_texts(64, "region", "language", "device", "age_group"),
    *_tokens("topics", 50),
    *_tokens("segments", 100),
]
