"""CSV, JSON lines and Parquet as streams of Arrow tables of what the files hold, in bounded memory.

CSV and JSON cells come as text; :mod:`upnext.sources.checks` casts them. A line that cannot be taken
apart comes as a row of the QUARANTINE schema. A file that cannot be read at all is CorruptData.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from upnext.errors import CorruptData, EmptyData, MissingData
from upnext.sources.base import Tables
from upnext.sources.checks import quarantine

_BLOCK_BYTES = 4 << 20
_ROWS = 65_536


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of the readers below as CorruptData that names the file."""
    try:
        yield
    except (pa.ArrowInvalid, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptData(f"{path} cannot be read ({reason}): write or fetch it again") from error


def demand(path: Path, found: Sequence[str], required: Sequence[str]) -> None:
    """MissingData, naming file and columns, unless all required columns are there."""
    missing = [column for column in required if column not in found]
    if missing:
        raise MissingData(f"{path} has no column {', '.join(missing)}: its columns are {', '.join(found)}")


def read_csv(
    path: Path, table: str, required: Sequence[str], optional: Sequence[str] | None = None
) -> Tables:
    """Text columns of a CSV file, plain or gzipped: the required ones, and of the optional those present.

    optional None: all that there are.
    """
    with readable(path):
        header = _header(path)
        demand(path, header, required)
        wanted = header if optional is None else [c for c in header if c in required or c in optional]
        malformed: list[tuple[str, str]] = []

        def keep(row: pa.csv.InvalidRow) -> str:
            malformed.append((f"{row.actual_columns} cells where {row.expected_columns} belong", row.text))
            return "skip"

        reader = pa.csv.open_csv(
            str(path),
            pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
            pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])
            if malformed:
                reasons, lines = zip(*malformed, strict=True)
                yield quarantine(pa.table({"line": list(lines)}), table, reasons, str(path))
                malformed.clear()


def _header(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    if not header:
        raise EmptyData(f"{path} is empty: the first line must name the columns")
    return header


def read_split(
    path: Path, table: str, separator: str, names: Sequence[str], encoding: str = "utf8"
) -> Tables:
    """Text columns of a file without header or quotes, whose lines have a cell for each of the names."""
    for lines in read_lines(path, encoding):
        cells = pc.split_pattern(pa.array(lines, pa.string()), separator)
        whole = pc.equal(pc.list_value_length(cells), len(names))
        flat = pc.list_flatten(cells.filter(whole))
        yield pa.table({name: flat[place :: len(names)] for place, name in enumerate(names)})
        broken = pa.table({"line": lines}).filter(pc.invert(whole))
        if len(broken):
            reason = f"not {len(names)} cells parted by {separator!r}"
            yield quarantine(broken, table, [reason] * len(broken), str(path))


def read_lines(path: Path, encoding: str = "utf8") -> Iterator[list[str]]:
    """Lines of a text file, plain or gzipped, without their ends, in blocks; blank lines are skipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    with readable(path), opener(path, "rt", encoding=encoding) as file:
        while block := list(islice(file, _ROWS)):
            lines = [line.rstrip("\r\n") for line in block]
            yield [line for line in lines if line.strip()]


def read_jsonl(path: Path, table: str, columns: Sequence[str], required: Sequence[str]) -> Tables:
    """Text columns of a file with one JSON object per line. Lists come as JSON text.

    A required column that no line of the first block has is MissingData.
    """
    import duckdb

    is_object = "coalesce(TRY(json_type(line)) = 'OBJECT', false)"
    cells = ", ".join(f"TRY(json_extract_string(line, '$.{column}')) AS {column}" for column in columns)
    for block, lines in enumerate(read_lines(path)):
        raw = pa.table({"line": pa.array(lines, pa.string())})
        with duckdb.connect(config={"threads": 1}) as engine:
            engine.register("raw", raw)
            parsed: pa.Table = engine.sql(
                f"SELECT {cells}, {is_object} AS is_object FROM raw"  # noqa: S608
            ).to_arrow_table()
        objects = parsed["is_object"]
        rows = parsed.filter(objects).drop_columns("is_object")
        if block == 0 and len(rows):
            demand(path, [column for column in columns if rows[column].null_count < len(rows)], required)
        yield rows
        if len(rows) < len(lines):
            broken = raw.filter(pc.invert(objects))
            yield quarantine(broken, table, ["the line is not a JSON object"] * len(broken), str(path))


def read_parquet(path: Path, required: Sequence[str], optional: Sequence[str]) -> Tables:
    """The named columns of a Parquet file, as they are typed there."""
    with readable(path):
        file = pq.ParquetFile(path)
        found = file.schema_arrow.names
        demand(path, found, required)
        wanted = [column for column in found if column in required or column in optional]
        for batch in file.iter_batches(_ROWS, columns=wanted):
            yield pa.Table.from_batches([batch])
