"""Bringing Arrow tables into the form of a contract before they enter a store."""

import pyarrow as pa

from upnext.errors import CorruptData, MissingData


def conform(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """The schema's columns of a table, in its order and types.

    Raises MissingData for a column that is not there, CorruptData for one that does not fit.
    """
    for field in schema:
        if field.name not in table.column_names:
            raise MissingData(
                f"{what} have no column {field.name!r}; there are {', '.join(table.column_names)}"
            )
        if not field.nullable and table[field.name].null_count:
            raise CorruptData(f"{what}: {table[field.name].null_count} rows have no {field.name}")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise CorruptData(f"{what} do not fit their contract: {error}") from error
