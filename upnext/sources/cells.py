"""Columns of loosely typed cells, as files bring them, cast to the contract's types without ever raising."""

from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upnext.contracts import UtcTime

Mask = NDArray[np.bool_]

NAMES = {
    pa.int32(): "a whole number",
    pa.int64(): "a whole number",
    pa.float32(): "a number",
    pa.float64(): "a number",
    pa.bool_(): "true or false",
    UtcTime: "a time",
    pa.string(): "text",
    pa.list_(pa.string()): "a list of texts",
}
"""How a message calls a type."""
_SQL = {
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    UtcTime: "TIMESTAMPTZ",
    pa.list_(pa.string()): "VARCHAR[]",
}


def convert(column: pa.ChunkedArray, to: pa.DataType) -> tuple[pa.Array, Mask]:
    """A column's cells as another type, and where that failed.

    Returns (cells [n] of type ``to``, null where there was none or it failed; failed bool[n]). Empty text
    is null. A time may be ISO 8601 (UTC unless it says otherwise) or a count since 1970 of seconds,
    milliseconds or microseconds, told apart by its size. A list in text is JSON, or has | between entries.
    """
    cells = _present(column)
    if cells.type == to:
        return cells, np.zeros(len(cells), bool)
    try:
        cast_cells = _strict(cells, to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cast_cells = _lenient(cells, to)
    failed = pc.and_(cells.is_valid(), cast_cells.is_null())
    return cast_cells, cast(Mask, failed.to_numpy(zero_copy_only=False))


def _present(column: pa.ChunkedArray) -> pa.Array:
    """One array, dictionaries decoded, with empty text and NaN as null."""
    cells = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_large_string(cells.type) or pa.types.is_string_view(cells.type):
        cells = cells.cast(pa.string())
    if pa.types.is_floating(cells.type):
        return pc.if_else(pc.is_nan(cells), None, cells) if len(cells) else cells
    if pa.types.is_string(cells.type):
        empty = pc.equal(pc.binary_length(cells), 0)
        return pc.if_else(empty, None, cells) if pc.any(empty).as_py() else cells
    return cells


def _strict(cells: pa.Array, to: pa.DataType) -> pa.Array:
    """Casts that Arrow can do at once; raises where one cell does not fit."""
    kind = cells.type
    if pa.types.is_string(kind) and pa.types.is_list(to):
        starts = pc.starts_with(cells, "[")
        if pc.any(starts).as_py():
            raise pa.ArrowInvalid("some cells are JSON")
        return pc.split_pattern(cells, "|")
    if to == UtcTime and pa.types.is_integer(kind):
        return _since_epoch(cells)
    if pa.types.is_floating(kind) and (to == UtcTime or pa.types.is_string(to)):
        return _strict(cells.cast(pa.int64()), to)  # ids and times that pandas made floats of
    if to == UtcTime and (pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)):
        return pc.assume_timezone(cells.cast(pa.timestamp("us"), safe=False), "UTC")
    if to == UtcTime and pa.types.is_timestamp(kind):
        return cells.cast(UtcTime, safe=False)
    return cells.cast(to)


def _lenient(cells: pa.Array, to: pa.DataType) -> pa.Array:
    """Cell by cell, null where one does not fit."""
    if pa.types.is_nested(cells.type) or pa.types.is_binary(cells.type):
        return pa.nulls(len(cells), to)
    if to == pa.string():
        return cells.cast(to)
    if pa.types.is_list(to):
        json = _query(cells, "TRY(from_json(x, '[\"VARCHAR\"]'))", to)
        split = pc.split_pattern(cells, "|")
        return pc.if_else(pc.starts_with(cells, "["), json, split)
    typed = _query(cells, f"TRY_CAST(x AS {_SQL[to]})", to)
    if pa.types.is_integer(to):
        exact = _query(cells, "TRY_CAST(x AS DOUBLE) = trunc(TRY_CAST(x AS DOUBLE))", pa.bool_())
        return pc.if_else(pc.fill_null(exact, False), typed, None)
    if to == UtcTime:
        return pc.coalesce(typed, _since_epoch(_query(cells, "TRY_CAST(x AS BIGINT)", pa.int64())))
    return typed


def _query(cells: pa.Array, expression: str, to: pa.DataType) -> pa.Array:
    """A DuckDB expression over cells x[n]; DuckDB's TRY turns one bad cell into one null."""
    with _database().cursor() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        engine.register("cells", pa.table({"x": cells}))
        result: pa.Table = engine.sql(f"SELECT {expression} AS x FROM cells").to_arrow_table()  # noqa: S608
    return result["x"].cast(to).combine_chunks()


@cache
def _database() -> Any:
    """One empty database in memory for the process: opening one takes longer than most queries here."""
    import duckdb

    return duckdb.connect(config={"threads": 1})


def _since_epoch(counts: pa.Array) -> pa.Array:
    """Counts since 1970, int[n], as times: below 1e11 seconds, below 1e14 milliseconds, else microseconds."""
    whole = counts.cast(pa.int64())
    values = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False)
    size = np.abs(values)
    micros = np.select([size < 10**11, size < 10**14], [values * 1_000_000, values * 1_000], values)
    return pc.if_else(whole.is_valid(), pa.array(micros, pa.timestamp("us")).cast(UtcTime), None)
