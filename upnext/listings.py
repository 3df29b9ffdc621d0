"""Files of users, videos and recommendations that people hand to commands: CSV or Parquet by their names."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from upnext.errors import CorruptData, MissingData

IDS = ("user_id", "video_id")


def read_columns(file: Path, required: Sequence[str]) -> pa.Table:
    """All columns of a file, ids as text. MissingData names what is not there, CorruptData says why not."""
    if not file.is_file():
        raise MissingData(f"no file {file}: name a CSV or Parquet file with {', '.join(required)}")
    try:
        if file.suffix == ".parquet":
            table = pq.read_table(file)
        else:
            types = dict.fromkeys(IDS, pa.string())
            table = csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=types))
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{file} can't be read as {file.suffix or 'CSV'}: {error}") from error
    absent = [name for name in required if name not in table.column_names]
    if absent:
        raise MissingData(
            f"{file} lacks the columns {', '.join(absent)}; it has {', '.join(table.column_names)}"
        )
    for name in set(IDS) & set(table.column_names):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.string()))
    return table
