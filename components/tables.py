"""Questions to DuckDB about Arrow tables and about tables of the lake, together."""

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from upnext.ports import Lake


def query(text: str, **tables: pa.Table | ds.Dataset) -> pa.Table:
    """What DuckDB answers about the tables named."""
    with duckdb.connect() as engine:
        for name, table in tables.items():
            engine.register(name, table)
        result: pa.Table = engine.sql(text).to_arrow_table()
    return result


def not_in(lake: Lake, name: str, rows: pa.Table) -> pa.Table:
    """Distinct rows that a table of the lake does not have as they are."""
    old = rows.slice(0, 0) if lake.version(name) < 0 else lake.scan(name)
    columns = ", ".join(f'"{column}"' for column in rows.column_names)
    return query(f"SELECT {columns} FROM new EXCEPT SELECT {columns} FROM old", new=rows, old=old)  # noqa: S608
