"""What every source of data offers, and the small things that readers share."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from upnext.contracts import QUARANTINE
from upnext.errors import MissingData

Tables = Iterator[pa.Table]


class Source(Protocol):
    """Videos, users and events of one origin, as streams of Arrow tables in bounded memory.

    The tables hold contract columns, raw or typed: :func:`upnext.sources.checks.split` casts and judges
    them. Rows that a reader could not even take apart come as tables of the QUARANTINE schema in between.
    """

    dataset: str
    """Slug for :meth:`upnext.settings.Settings.activate`."""
    timed: bool
    """False where the times of events are a layout of ours, since the data has none."""

    def videos(self) -> Iterator[pa.Table | pa.RecordBatch]: ...

    def users(self) -> Iterator[pa.Table | pa.RecordBatch]: ...

    def events(self, since: datetime | None = None) -> Iterator[pa.Table | pa.RecordBatch]:
        """All events, or at least those from ``since`` on where skipping the others is cheap."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A source that remembers how far it was read."""

    def commit(self, until: datetime | None) -> None:
        """All events up to a time (None: all that were read) are in the lake and need no second reading."""
        ...


@runtime_checkable
class FeatureSource(Protocol):
    """A source that also logged the features with which what was shown had been ranked."""

    def logged_features(self) -> Tables:
        """What was logged since :meth:`commit_features` was last called (columns of LOGGED_FEATURES)."""
        ...

    def commit_features(self, oldest: datetime) -> None:
        """All that was read is in the lake; what is older than a time is not needed any more."""
        ...


@runtime_checkable
class Simulated(Protocol):
    """A source with a clock of its own, which may run ahead of ours."""

    simulated: bool


def existing_folder(text: str, kind: str) -> Path:
    """The folder that a spec ``kind:folder`` names; MissingData when there is none."""
    folder = Path(text).expanduser()
    if not text or not folder.is_dir():
        raise MissingData(f"{kind}:{text} names no folder: {folder.absolute()} does not exist")
    return folder


def slug(text: str) -> str:
    """A name made fit for a dataset: lower case, with _ for what is not a-z, 0-9, _ or -."""
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:48] or "data"


def find(folder: Path, *patterns: str) -> list[Path]:
    """Files below a folder that match any pattern, plain or gzipped, each once, by name."""
    matches = {path for pattern in patterns for tail in ("", ".gz") for path in folder.glob(pattern + tail)}
    plain = {path.name for path in matches}
    return sorted(path for path in matches if not (path.suffix == ".gz" and path.stem in plain))


def find_some(folder: Path, *patterns: str) -> list[Path]:
    """Like :func:`find`; MissingData, naming what is there, when nothing matches."""
    paths = find(folder, *patterns)
    if not paths:
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise MissingData(f"{folder} has no {' or '.join(patterns)} (nor .gz): it holds {present}")
    return paths


def mapped(tables: Tables, change: Callable[[pa.Table], pa.Table]) -> Tables:
    """Tables of rows as ``change`` makes them; quarantined rows in between as they are."""
    for table in tables:
        yield table if table.schema.equals(QUARANTINE) else change(table)
