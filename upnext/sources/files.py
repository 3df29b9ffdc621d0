"""A company's own files: events, videos and users in the contract's columns.

Each of the three is one file (``events.parquet``), several (``events-2026-01.csv.gz``) or a folder
(``events/``), as Parquet, CSV or JSON lines. Videos and users are optional: what only the events know is
taken up by its id.
"""

from datetime import datetime
from pathlib import Path

from upnext.errors import EmptyData, MissingData
from upnext.sources.base import Tables, existing_folder
from upnext.sources.checks import REQUIRED, SCHEMAS, Name
from upnext.sources.rawfiles import read_csv, read_jsonl, read_parquet

FORMATS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


class FilesSource:
    """``files:DIR``."""

    dataset = "default"
    timed = True

    def __init__(self, folder: str) -> None:
        self.folder = existing_folder(folder, "files")
        if not self._paths("events"):
            present = ", ".join(sorted(path.name for path in self.folder.iterdir())[:20]) or "nothing"
            known = ", ".join(f"events{tail}" for tail in FORMATS)
            raise MissingData(f"{self.folder} has no events: expected one of {known}; it holds {present}")

    def videos(self) -> Tables:
        return self._read("videos")

    def users(self) -> Tables:
        return self._read("users")

    def events(self, since: datetime | None = None) -> Tables:
        rows = 0
        for table in self._read("events"):
            rows += len(table)
            yield table
        if not rows:
            raise EmptyData(f"{self.folder} has no event: {', '.join(map(str, self._paths('events')))}")

    def _read(self, name: Name) -> Tables:
        for path in self._paths(name):
            yield from _rows(path, name)

    def _paths(self, name: Name) -> list[Path]:
        patterns = [f"{pattern}{tail}" for pattern in (name, f"{name}-*", f"{name}/*") for tail in FORMATS]
        return sorted({path for pattern in patterns for path in self.folder.glob(pattern)})


def _rows(path: Path, name: Name) -> Tables:
    required = REQUIRED[name]
    columns = SCHEMAS[name].names
    if path.suffix == ".parquet":
        return read_parquet(path, required, columns)
    if ".jsonl" in path.suffixes:
        return read_jsonl(path, name, columns, required)
    return read_csv(path, name, required, columns)
