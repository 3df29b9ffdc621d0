"""Files in, files out: what ``upnext recommend`` does around :mod:`serving.bulk`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.bundle import Bundle
from models.columns import codes
from serving.bulk import Bulk
from serving.policies import Picks, Policy
from serving.viewer import Viewer
from upnext.errors import ConfigError, EmptyData
from upnext.listings import read_columns
from upnext.settings import Settings

COUNT = 30
"""Videos per user where nothing else is asked for."""


@dataclass(frozen=True)
class Batch:
    """One run of ``upnext recommend``."""

    release: str
    users: Path | None
    count: int | None
    stage: str
    policies: Sequence[str]
    candidates: Path | None
    as_of: datetime | None
    out: Path
    heads: bool = False
    signals: bool = False

    def run(self, settings: Settings) -> dict[str, Any]:
        """Write the file; says what was done."""
        from rich.console import Console
        from rich.progress import Progress
        from threadpoolctl import threadpool_limits

        from upnext.releases import Releases
        from upnext.stores import connect

        start = perf_counter()
        if self.out.suffix not in {".csv", ".parquet"}:
            raise ConfigError(f"--out is {self.out}: name a file that ends in .csv or .parquet")
        if self.heads and (self.candidates is None or tuple(self.policies) != ("funnel",)):
            raise ConfigError("--heads needs --candidates and no other policy than funnel")
        alone = tuple(self.policies) == ("funnel",) and self.candidates is None
        if self.signals and not (alone and self.stage == "ranking"):
            raise ConfigError("--signals needs --stage ranking, without --candidates or another policy")
        for policy in self.policies:
            Policy.parse(policy)
        pairs = named(self.candidates, "user_id", "video_id") if self.candidates else None
        user_ids = self._user_ids(pairs)
        found = Releases(settings).resolve(self.release)
        bundle = Bundle.load(found.path)
        at = self.as_of or bundle.manifest.as_of
        bars = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        # Many small products: threads that wait for one another cost more than they bring.
        with connect(settings) as stores, bars as progress, threadpool_limits(1):
            bulk = Bulk.of(bundle, stores.lake, at)
            viewers = bulk.viewers(user_ids)
            bar = progress.add_task("recommend", total=len(viewers) * len(self.policies), visible=False)
            tables = []
            for policy in self.policies:
                picks = self._picks(bulk, viewers, pairs, policy)
                tables.append(table_of(_watched(picks, progress, bar, start), bundle, self._columns(policy)))
        table = pa.concat_tables(tables)
        write(table, self.out)
        return {
            "out": str(self.out),
            "release": found.version,
            "as_of": at.isoformat(),
            "users": len(user_ids),
            "rows": len(table),
            "seconds": round(perf_counter() - start, 3),
        }

    def _user_ids(self, pairs: pa.Table | None) -> list[str]:
        """Whom to recommend for, each once, in the order of the file."""
        if self.users is not None:
            asked = named(self.users, "user_id")["user_id"]
        elif pairs is not None:
            asked = pairs["user_id"]
        else:
            raise ConfigError("--users is missing: name a CSV or Parquet file with a column user_id")
        return list(dict.fromkeys(asked.to_pylist()))

    def _picks(
        self, bulk: Bulk, viewers: Sequence[Viewer], pairs: pa.Table | None, policy: str
    ) -> Iterator[tuple[Viewer, Picks]]:
        if pairs is None:
            for viewer, picks in bulk.recommend(viewers, policy, self.stage, self.count or COUNT):
                yield viewer, replace(picks, heads=picks.signals if self.signals else {})
            return
        given = rows_by_user(pairs, [viewer.user_id for viewer in viewers], bulk)
        for viewer, picks in bulk.order(viewers, given, policy):
            told = {name: head[: self.count] for name, head in picks.heads.items()} if self.heads else {}
            yield viewer, Picks(picks.rows[: self.count], picks.scores[: self.count], told)

    def _columns(self, policy: str) -> dict[str, str]:
        """The column that tells policies apart, where there are several."""
        return {"policy": policy} if len(self.policies) > 1 else {}


def rows_by_user(pairs: pa.Table, user_ids: Sequence[str], bulk: Bulk) -> list[NDArray[np.int32]]:
    """Catalogue rows to rank for each user, each once; videos that the catalogue lacks are left out."""
    user = codes(pairs["user_id"], user_ids)
    video = bulk.funnel.bundle.catalogue.rows(pairs["video_id"])
    kept = (user >= 0) & (video >= 0)
    distinct = np.unique(np.stack([user[kept], video[kept]], axis=1), axis=0)
    bounds = np.searchsorted(distinct[:, 0], np.arange(len(user_ids) + 1))
    return [distinct[bounds[u] : bounds[u + 1], 1] for u in range(len(user_ids))]


def table_of(picks: Iterable[tuple[Viewer, Picks]], bundle: Bundle, constant: dict[str, str]) -> pa.Table:
    """Columns user_id, position, video_id, score, heads or signals, and what is the same in all rows."""
    users: list[str] = []
    parts: list[Picks] = []
    for viewer, each in picks:
        users.append(viewer.user_id)
        parts.append(each)
    sizes = [len(part.rows) for part in parts]
    rows = np.concatenate([part.rows for part in parts])
    columns = {
        "user_id": pa.array(np.repeat(np.asarray(users, object), sizes), pa.string()),
        "position": pa.array(np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])),
        "video_id": bundle.catalogue.table["video_id"].take(pa.array(rows)),
        "score": pa.array(np.concatenate([part.scores for part in parts]).astype(np.float32)),
    }
    columns |= {
        name: pa.array(np.concatenate([part.heads.get(name, part.scores[:0]) for part in parts]))
        for name in next((part.heads for part in parts if part.heads), {})
    }
    columns |= {name: pa.repeat(value, len(rows)) for name, value in constant.items()}
    return pa.table(columns)


def named(file: Path, *names: str) -> pa.Table:
    """Columns of ids in a file, those rows that have all; EmptyData where it has no rows."""
    table = read_columns(file, names)
    if not len(table):
        raise EmptyData(f"{file} has no rows: there is nobody to recommend for")
    return table.select(names).drop_null()


def write(table: pa.Table, out: Path) -> None:
    """Write CSV or Parquet, by the file's name; the file appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.new")
    if out.suffix == ".parquet":
        pq.write_table(table, new)
    else:
        pyarrow.csv.write_csv(table, new)
    new.replace(out)


def _watched(
    picks: Iterable[tuple[Viewer, Picks]], progress: Any, bar: Any, start: float
) -> Iterator[tuple[Viewer, Picks]]:
    """The same, moving a bar that shows itself after two seconds."""
    for pick in picks:
        progress.update(bar, advance=1, visible=perf_counter() - start > 2)
        yield pick
