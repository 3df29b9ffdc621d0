"""A company's own files: events, videos and users in the contract's columns.

Each of the three is one file (``events.parquet``), several (``events-2026-01.csv.gz``) or a folder
(``events/``), as Parquet, CSV or JSON lines. Videos and users are optional: what only the events know is
taken up by its id. A video's ``thumbnail_url`` may be a path below the folder, or a ``file://`` URL of one.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

from upnext.errors import EmptyData, MissingData
from upnext.sources.base import Tables, Thumbnails, existing_folder
from upnext.sources.checks import REQUIRED, SCHEMAS, Name, split
from upnext.sources.pictures import read_thumbnails
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

    def thumbnails(self, video_ids: Sequence[str]) -> Thumbnails:
        """As :meth:`upnext.sources.base.Pictured.thumbnails`; pictures elsewhere are not fetched."""
        return read_thumbnails(self.folder, video_ids, self._pictures, f"files:{self.folder}")

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """thumbnail_url by video_id, where there is one; of repeated ids the last counts."""
        urls: dict[str, str] = {}
        for table in self.videos():
            if "thumbnail_url" in table.column_names:
                good = split(table, "videos", "files:").good
                urls |= zip(good["video_id"].to_pylist(), good["thumbnail_url"].to_pylist(), strict=True)
        return {video: url for video, url in urls.items() if url}

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
