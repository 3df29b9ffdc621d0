"""Video features by catalogue row: memory-mapped files beside the store by id, a new one each hour.

    rows/catalogues/<digest>.parquet           ids in row order of a catalogue that serving may count by
    rows/<view>@<layout>/<digest>.json         the newest generation: its file, as_of and number of rows
    rows/<view>@<layout>/<digest>.<as_of>.rows packed rows in that order, without headers

A pointer is replaced in one step once its file is whole. The two newest generations of a catalogue stay, so
that whoever has read a pointer finds its file; who has it mapped keeps it, removed or not.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.catalogue import digest_of
from models.columns import codes
from models.layout import FeatureLayout
from upnext.errors import CorruptData, MissingData
from upnext.stores.local import os_errors
from upnext.times import microseconds

FOLDER = "rows"
"""Below the state folder of a data set."""
CATALOGUES = 3
"""Catalogues kept: those of the champion, the previous release and one on its way."""
GENERATIONS = 2
WRITTEN = 65_536
"""Rows packed at once."""


@dataclass(frozen=True)
class Generation:
    """What a pointer says of the newest rows."""

    file: str
    as_of: str
    catalogue: str
    layout: str
    rows: int


class Rows:
    """One generation, mapped. Safe to share between threads."""

    def __init__(self, folder: Path, generation: Generation, layout: FeatureLayout) -> None:
        """CorruptData when the file is not as long as its rows; MissingData when it is gone."""
        self.generation, self._layout = generation, layout
        self.as_of_us = microseconds(datetime.fromisoformat(generation.as_of))
        """When the features held, µs since the epoch."""
        path = folder / generation.file
        layout.require(generation.layout, str(path))
        with os_errors(path):
            size = path.stat().st_size
        if size != generation.rows * layout.bare.itemsize:
            raise CorruptData(
                f"{path} has {size} bytes for {generation.rows} rows of {layout.bare.itemsize}: "
                "materialise again"
            )
        with os_errors(path):
            mapped = np.memmap(path, layout.bare, mode="r") if size else np.empty(0, layout.bare)
        self._rows = mapped.view(np.ndarray)

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Features of catalogue rows int32[n], float32[n, d]."""
        return self._layout.unpack_bare(self._rows.take(rows))


class RowSnapshots:
    """The newest generation of a view for one catalogue and layout; :meth:`look` costs one ``stat``."""

    def __init__(self, root: Path, view: str, layout: FeatureLayout, catalogue: str) -> None:
        self._folder, self._layout = _folder(root, view, layout), layout
        self._pointer = self._folder / f"{catalogue}.json"
        self._known: tuple[int, int] | None = None
        self.newest: Rows | None = None

    def look(self) -> Rows | None:
        """The newest generation, mapped anew when there is a newer one; None when there is none.

        CorruptData or LayoutMismatch when the pointer or its file are not what they should be: the one that
        was mapped before goes on being :attr:`newest`.
        """
        try:
            stat = self._pointer.stat()
        except OSError:
            self._known = None
            return self.newest
        if (stat.st_mtime_ns, stat.st_ino) != self._known:
            self._known = stat.st_mtime_ns, stat.st_ino
            self.newest = open_rows(self._pointer, self._layout)
        return self.newest


def open_rows(pointer: Path, layout: FeatureLayout) -> Rows:
    """The generation that a pointer names; MissingData, CorruptData or LayoutMismatch instead of it."""
    return Rows(pointer.parent, _read(pointer), layout)


def keep_catalogue(root: Path, ids: Sequence[str] | NDArray[np.object_]) -> str:
    """Have rows written for a catalogue from now on; says its digest. Those kept longest ago are let go."""
    digest = digest_of(ids)
    folder = root / FOLDER / "catalogues"
    file = folder / f"{digest}.parquet"
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{uuid4().hex}"
        pq.write_table(pa.table({"id": pa.array(ids, pa.string())}), fresh, compression="zstd")
        fresh.replace(file)
        for old in sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)[:-CATALOGUES]:
            old.unlink(missing_ok=True)
            for left in (root / FOLDER).glob(f"*@*/{old.stem}.*"):
                left.unlink(missing_ok=True)
    return digest


def write_rows(
    root: Path,
    view: str,
    layout: FeatureLayout,
    as_of: datetime,
    ids: Sequence[str],
    rows: NDArray[np.float32],
    defaults: NDArray[np.float32],
) -> int:
    """Write a generation of a view's rows for every catalogue that is kept; says how many were written.

    Parameters
    ----------
    root
        State folder of the data set.
    ids, rows
        Entities and their features, float32[n, d], as of ``as_of``; the catalogues' other entities get
        ``defaults``, float32[d].
    """
    written = 0
    for file in sorted((root / FOLDER / "catalogues").glob("*.parquet")):
        pointer = _folder(root, view, layout) / f"{file.stem}.json"
        moment = as_of.astimezone(UTC)
        if pointer.exists() and datetime.fromisoformat(_read(pointer).as_of) >= moment:
            continue
        place = codes(pq.read_table(file)["id"], ids)
        _write(pointer, layout, moment, place, rows, defaults)
        written += 1
    return written


def _write(
    pointer: Path,
    layout: FeatureLayout,
    as_of: datetime,
    place: NDArray[np.int32],
    rows: NDArray[np.float32],
    defaults: NDArray[np.float32],
) -> None:
    """The rows at ``place``, int32[m], defaults where that is -1, as the newest generation of a pointer."""
    name = f"{pointer.stem}.{as_of:%Y%m%dT%H%M%S%f}.rows"
    with os_errors(pointer):
        pointer.parent.mkdir(parents=True, exist_ok=True)
        fresh = pointer.parent / f".{uuid4().hex}"
        try:
            with fresh.open("wb") as out:
                for start in range(0, len(place), WRITTEN):
                    some = place[start : start + WRITTEN]
                    known = (some >= 0)[:, None]
                    part = (
                        np.where(known, rows[some], defaults)
                        if len(rows)
                        else defaults[None].repeat(len(some), 0)
                    )
                    out.write(layout.pack_bare(part).tobytes())
            fresh.replace(pointer.parent / name)
            about = Generation(name, as_of.isoformat(), pointer.stem, layout.hash, len(place))
            fresh.write_text(json.dumps(asdict(about), indent=1))
            fresh.replace(pointer)
        finally:
            fresh.unlink(missing_ok=True)
        for old in sorted(pointer.parent.glob(f"{pointer.stem}.*.rows"))[:-GENERATIONS]:
            old.unlink(missing_ok=True)


def _read(pointer: Path) -> Generation:
    try:
        return Generation(**json.loads(pointer.read_text()))
    except FileNotFoundError as error:
        raise MissingData(f"{pointer} is not there: materialise again") from error
    except (ValueError, TypeError) as error:
        raise CorruptData(f"{pointer} does not say where the rows are: {error}; remove it") from error


def _folder(root: Path, view: str, layout: FeatureLayout) -> Path:
    return root / FOLDER / f"{view}@{layout.hash[:12]}"
