"""The catalogue as columns: one row per video, the same row number in every model of a release."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.columns import codes, distinct, floats, micros
from upnext.contracts import VIDEOS
from upnext.errors import CorruptData, MissingData
from upnext.times import moment


@dataclass(frozen=True)
class Catalogue:
    """Videos in row order, by upload time and then id; unknown upload times come first.

    Build it with :meth:`of` or :meth:`load`, which see to the order. Arrays are of length n.
    """

    table: pa.Table
    """Columns of VIDEOS, in row order."""

    @classmethod
    def of(cls, videos: pa.Table) -> "Catalogue":
        """Order a table of VIDEOS (more columns are dropped); CorruptData where an id comes twice."""
        absent = [name for name in VIDEOS.names if name not in videos.column_names]
        if absent:
            raise MissingData(f"videos lack the columns {', '.join(absent)}")
        table = videos.select(VIDEOS.names).cast(VIDEOS).combine_chunks()
        keys = pa.table({"uploaded_at": micros(table["uploaded_at"]), "video_id": table["video_id"]})
        order = pc.sort_indices(keys, sort_keys=[("uploaded_at", "ascending"), ("video_id", "ascending")])
        table = table.take(order).combine_chunks()
        repeats = len(table) - pc.count_distinct(table["video_id"]).as_py()
        if repeats:
            raise CorruptData(f"{repeats} video_ids come twice: keep the newest row of each")
        return cls(table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """str[n]."""
        return np.asarray(self.table["video_id"].to_numpy(), dtype=np.object_)

    @cached_property
    def digest(self) -> str:
        """Names the rows: two catalogues of one digest have the same ids in the same rows."""
        return digest_of(self.ids)

    @cached_property
    def creators(self) -> tuple[str, ...]:
        """Distinct creators by code, sorted."""
        return distinct(self.table["creator_id"])

    @cached_property
    def creator(self) -> NDArray[np.int32]:
        """int32[n], codes into ``creators``; -1 unknown."""
        return codes(self.table["creator_id"], self.creators)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Distinct categories by code, sorted."""
        return distinct(self.table["category"])

    @cached_property
    def category(self) -> NDArray[np.int32]:
        """int32[n], codes into ``categories``; -1 unknown."""
        return codes(self.table["category"], self.categories)

    @cached_property
    def duration_s(self) -> NDArray[np.float32]:
        """float32[n], seconds; nan unknown."""
        ms = floats(self.table["duration_ms"])
        return np.where(ms > 0, ms / 1000, np.nan).astype(np.float32)

    @cached_property
    def uploaded_at(self) -> NDArray[np.int64]:
        """int64[n], microseconds since 1970 UTC; 0 unknown."""
        return micros(self.table["uploaded_at"])

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """bool[n]; False for what must never be recommended: blocked or deleted."""
        status = pc.fill_null(self.table["status"], "active")
        return np.asarray(pc.equal(status, "active").to_numpy(), dtype=np.bool_)

    @property
    def parts(self) -> tuple[slice, ...]:
        """The rows in pieces, each in order of upload."""
        return (slice(0, len(self)),)

    def named(self, rows: NDArray[np.integer]) -> NDArray[np.object_]:
        """str[k], the ids of some rows."""
        found: NDArray[np.object_] = self.ids[rows]
        return found

    def documents(self, rows: NDArray[np.integer], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some rows, one document each."""
        found = self.table.select(columns).take(pa.array(rows))
        values = zip(*(_values(column) for column in found.columns), strict=True)
        return [dict(zip(columns, each, strict=True)) for each in values]

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        """Rows of some ids: int32, -1 where unknown. A list suits few ids, an Arrow array many."""
        if isinstance(ids, pa.Array | pa.ChunkedArray):
            return codes(ids, self.table["video_id"])
        get = self._row_of.get
        return np.fromiter((get(video_id, -1) for video_id in ids), np.int32, len(ids))

    def save(self, path: Path) -> None:
        """Write a Parquet file."""
        pq.write_table(self.table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read what :meth:`save` wrote."""
        if not path.is_file():
            raise MissingData(f"no catalogue at {path}")
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise CorruptData(f"{path} can't be read as Parquet: {error}") from error
        return cls.of(table)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {video_id: row for row, video_id in enumerate(self.ids)}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """As ``to_pylist`` gives them, which takes several times as long to make a time."""
    if not pa.types.is_timestamp(column.type):
        plain: list[Any] = column.to_pylist()
        return plain
    return [None if at is None else moment(at) for at in column.cast(pa.int64()).to_pylist()]


def digest_of(ids: Sequence[str] | NDArray[np.object_]) -> str:
    """Sixteen hexadecimal digits of SHA-256 over ids in row order."""
    return sha256("\n".join(ids).encode()).hexdigest()[:16]
