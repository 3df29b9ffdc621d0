"""The lake as Delta tables in a folder or below an ``s3://`` address, through delta-rs.

Credentials and endpoints of S3 come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``…), as
delta-rs reads them itself.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Self
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, PyFileSystem

from upnext.errors import ConfigError, CorruptData, MissingData, StoreError, StoreUnavailable
from upnext.settings import Settings
from upnext.stores.local import os_errors, read_only, writable
from upnext.stores.urls import local_path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_MAX_PARTITIONS_NAMED = 4_096
"""Above so many partitions in one merge their list costs more to plan than reading them all."""
PERSONAL = ("user_id", "event_id", "session_id", "request_id", "query", "row")
"""Columns that are of one person, of which a table's log is to say nothing."""


class DeltaLake:
    """Tables side by side below one folder. One writer at a time per table; any number of readers."""

    def __init__(self, root: str, folder: Path | None) -> None:
        self._root = root
        self._folder = folder
        """The root as a local folder; None when it is in an object store."""

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        folder = local_path(url)
        return cls(str(folder) if folder else url.rstrip("/"), folder)

    def ping(self) -> str:
        if self._folder and self._folder.exists() and not writable(self._folder):
            raise read_only(self._folder)
        return f"{len(self.tables())} tables"

    def close(self) -> None:
        """Nothing stays open between calls."""

    def uri(self, table: str) -> str:
        if not _NAME.fullmatch(table):
            raise ConfigError(f"{table!r} is no name for a table: use letters, digits, _ and -")
        return f"{self._root}/{table}"

    def tables(self) -> list[str]:
        if self._folder:
            return sorted(log.parent.name for log in self._folder.glob("*/_delta_log"))
        with _delta_errors(self._root):
            found = self._filesystem(self._root).get_file_info(FileSelector("", allow_not_found=True))
        names = (entry.base_name for entry in found if entry.type is FileType.Directory)
        return sorted(name for name in names if self.version(name) >= 0)

    def version(self, table: str) -> int:
        try:
            return self._open(table).version()
        except MissingData:
            return -1

    def append(
        self, table: str, data: pa.Table | pa.RecordBatchReader, partition_by: Sequence[str] = ()
    ) -> int:
        with self._writing(table) as uri:
            write_deltalake(
                uri,
                data,
                mode="append",
                partition_by=list(partition_by) or None,
                schema_mode="merge",
                configuration=self._at_first(table, data.schema),
            )
        return self.version(table)

    def overwrite(
        self,
        table: str,
        data: pa.Table | pa.RecordBatchReader,
        partition_by: Sequence[str] = (),
        where: str | None = None,
    ) -> int:
        if where is not None and self.version(table) < 0:
            where = None
        with self._writing(table) as uri:
            write_deltalake(
                uri,
                data,
                mode="overwrite",
                partition_by=list(partition_by) or None,
                predicate=where,
                schema_mode="overwrite" if where is None else "merge",
                configuration=self._at_first(table, data.schema),
            )
        return self.version(table)

    def merge(
        self, table: str, data: pa.Table, on: Sequence[str], *, update: bool, partition_by: Sequence[str] = ()
    ) -> tuple[int, int]:
        """See :meth:`upnext.ports.Lake.merge`. Of rows that share a key within ``data``, the first is
        inserted, or with ``update`` the last. Name the partition columns in ``on`` where rows of one key
        never change partition: then only the partitions that ``data`` touches are read."""
        _check_key(table, data, on)
        data = _one_per_key(data, on, last=update)
        if self.version(table) < 0:
            self.append(table, data, partition_by)
            return data.num_rows, 0
        if not data.num_rows:
            return 0, 0
        with self._writing(table) as uri:
            target = DeltaTable(uri)
            partitions = [column for column in target.metadata().partition_columns if column in on]
            merger = target.merge(
                data,
                predicate=_merge_predicate(data, on, partitions),
                source_alias="s",
                target_alias="t",
                merge_schema=True,
            ).when_not_matched_insert_all()
            metrics = (merger.when_matched_update_all() if update else merger).execute()
        return metrics["num_target_rows_inserted"], metrics["num_target_rows_updated"]

    def read(self, table: str, columns: Sequence[str] | None = None, version: int | None = None) -> pa.Table:
        dataset = self.scan(table, version)
        missing = [column for column in columns or () if column not in dataset.schema.names]
        if missing:
            there = ", ".join(dataset.schema.names)
            raise MissingData(f"table {table!r} has no column {missing[0]!r}; there are {there}")
        try:
            return dataset.to_table(columns=list(columns) if columns is not None else None)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(dataset, self.uri(table), error) from error

    def scan(self, table: str, version: int | None = None) -> ds.Dataset:
        opened = self._open(table, version)
        with _delta_errors(self.uri(table)):
            if self._folder:
                _check_files(Path(self.uri(table)), opened)
            return opened.to_pyarrow_dataset()

    def partitions(self, table: str, column: str) -> list[str]:
        try:
            opened = self._open(table)
        except MissingData:
            return []
        with _delta_errors(self.uri(table)):
            columns = opened.metadata().partition_columns
            if column not in columns:
                there = ", ".join(columns) or "nothing"
                raise MissingData(f"table {table!r} is not partitioned by {column!r}, but by {there}")
            found = {part[column] for part in opened.partitions()}
        return sorted(value for value in found if value is not None)

    def delete(self, table: str, where: str) -> int:
        opened = self._open(table)
        with self._writing(table):
            return int(opened.delete(where)["num_deleted_rows"])

    def vacuum(self, table: str, keep: timedelta) -> None:
        """See :meth:`upnext.ports.Lake.vacuum`. Only files that a version dropped are removed, never those
        that another writer has not committed yet."""
        opened = self._open(table)
        with self._writing(table):
            hours = int(keep / timedelta(hours=1))
            opened.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=False)

    def _at_first(self, table: str, schema: pa.Schema) -> dict[str, str | None] | None:
        """Properties of a table that is made now: no first and last user of each file in its log."""
        if self.version(table) >= 0:
            return None
        told = [name for name in schema.names if name not in PERSONAL]
        return {"delta.dataSkippingStatsColumns": ",".join(told)}

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        uri = self.uri(table)
        with _delta_errors(uri):
            opened = DeltaTable(uri)
            if version is not None and not 0 <= version <= opened.version():
                raise MissingData(f"{uri} has no version {version}: its newest is {opened.version()}")
            return opened if version is None else DeltaTable(uri, version=version)

    @contextmanager
    def _writing(self, table: str) -> Iterator[str]:
        uri = self.uri(table)
        if self._folder:  # asked first, since delta-rs tells a refusal only in prose
            with os_errors(uri):
                self._folder.mkdir(parents=True, exist_ok=True)
            if not writable(Path(uri)):
                raise read_only(uri)
        with _delta_errors(uri):
            yield uri

    def _filesystem(self, uri: str) -> FileSystem:
        return LocalFileSystem() if self._folder else PyFileSystem(DeltaStorageHandler(uri))


@contextmanager
def _delta_errors(uri: str) -> Iterator[None]:
    """Map what delta-rs raises about a table to Upnext's errors."""
    try:
        with os_errors(uri):
            yield
    except TableNotFoundError as error:
        raise MissingData(f"there is no table at {uri}") from error
    except CommitFailedError as error:
        raise StoreUnavailable(f"{uri} was written by another at the same time: run this again") from error
    except SchemaMismatchError as error:
        raise CorruptData(f"the rows do not fit the table at {uri}: {error}") from error
    except (DeltaError, pa.ArrowException) as error:
        if "parquet" in str(error).lower():
            raise CorruptData(f"a file of the table at {uri} cannot be read: {error}") from error
        raise StoreError(f"{uri}: {error}") from error


def _check_files(folder: Path, table: DeltaTable) -> None:
    """CorruptData for a file that is gone or not as long as the table's log says, before any is read."""
    files = pa.table(table.get_add_actions())
    for path, size in zip(files["path"].to_pylist(), files["size_bytes"].to_pylist(), strict=True):
        file = folder / unquote(path)
        found = file.stat().st_size if file.exists() else 0
        if found != size:
            raise CorruptData(f"{file} has {found} bytes and was written with {size}: restore it from a copy")


def _unreadable(dataset: ds.Dataset, uri: str, cause: Exception) -> CorruptData:
    """The error that names the first Parquet file of a table that cannot be opened."""
    for fragment in dataset.get_fragments():
        try:
            with fragment.filesystem.open_input_file(fragment.path) as file:
                pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            return CorruptData(f"{uri}/{fragment.path} cannot be read: {error}")
    return CorruptData(f"{uri} cannot be read: {cause}")


def _check_key(table: str, data: pa.Table, on: Sequence[str]) -> None:
    for column in on:
        if column not in data.column_names:
            raise MissingData(f"rows for table {table!r} have no column {column!r}, which is in the key")
        if data[column].null_count:
            raise CorruptData(f"{data[column].null_count} rows for table {table!r} have no {column!r}")


def _one_per_key(data: pa.Table, on: Sequence[str], *, last: bool) -> pa.Table:
    """The first or the last of the rows that share a key, in the order they came."""
    numbered = data.select(list(on)).append_column("__row", pa.array(np.arange(data.num_rows)))
    kept = numbered.group_by(list(on)).aggregate([("__row", "max" if last else "min")])
    if kept.num_rows == data.num_rows:
        return data
    rows = kept["__row_max" if last else "__row_min"]
    return data.take(rows.take(pc.sort_indices(rows)))


def disguised(column: str, values: Sequence[str]) -> str:
    """A predicate: the column is one of some texts, none of which it tells.

    A table's log keeps the predicate of every deletion. This one has salted SHA-256 sums in their place.
    """
    salt = token_hex(16)
    sums = ", ".join(f"'{sha256((salt + value).encode()).hexdigest()}'" for value in values)
    return f"encode(sha256(concat('{salt}', {column})), 'hex') IN ({sums})"


def literal(text: str) -> str:
    """A text as it stands in a predicate, whatever it holds.

    >>> literal("o'clock")
    "'o''clock'"
    """
    return "'" + text.replace("'", "''") + "'"


def _merge_predicate(data: pa.Table, on: Sequence[str], partitions: Sequence[str]) -> str:
    """Equality of the key, and the partitions touched as literals, by which delta-rs skips all others."""
    terms = [f't."{column}" = s."{column}"' for column in on]
    for column in partitions:
        values = data[column].unique().to_pylist()
        if len(values) <= _MAX_PARTITIONS_NAMED and all(isinstance(value, str) for value in values):
            literals = ", ".join(map(literal, values))
            terms.append(f't."{column}" IN ({literals})')
    return " AND ".join(terms)
