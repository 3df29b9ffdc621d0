"""What the training steps load: interactions, labelled examples and the catalogue, cut by time.

A folder of .npy files that are memory-mapped, so that several steps share pages instead of copies.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.columns import codes, flags, floats, micros
from models.files import reading
from models.history import SECOND, Histories, strength

HEADS = ("click", "long_view", "like", "share", "not_interested", "watch_s")
"""Labels of an example; ``watch_s`` is in seconds, the others are 0 or 1; nan is unknown."""
CHUNK = 8192
"""Viewers whose histories are gathered at once; bounds the memory of the gather."""


@dataclass(frozen=True)
class Interactions:
    """Engagements, sorted by user, time and video; impressions alone are not among them.

    Arrays of length m. ``strength`` is what had come of (user, video) up to and including the row, so that
    the newest row of a video says all.
    """

    user: NDArray[np.int32]
    """Codes into the data set's users."""
    video: NDArray[np.int32]
    """Catalogue rows."""
    ts: NDArray[np.int64]
    """Time of the last event of the outcome, microseconds since 1970 UTC."""
    strength: NDArray[np.float32]
    watch_ms: NDArray[np.float32]
    """Milliseconds played in this outcome; nan not watched or unknown."""
    n_users: int

    def __post_init__(self) -> None:
        lengths = {len(self.user), len(self.video), len(self.ts), len(self.strength), len(self.watch_ms)}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        user, ts, video = (np.diff(column) for column in (self.user, self.ts, self.video))
        if ((user < 0) | ((user == 0) & ((ts < 0) | ((ts == 0) & (video < 0))))).any():
            raise ValueError("rows are not sorted by user, ts and video")

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def of(cls, outcomes: pa.Table, catalogue: Catalogue, users: Sequence[str]) -> "Interactions":
        """From the lake's ``outcomes``, without mere impressions and without videos or users not listed."""
        video, user = catalogue.rows(outcomes["video_id"]), codes(outcomes["user_id"], users)
        signals = [flags(outcomes[name]) for name in ("clicked", "liked", "shared", "not_interested")]
        engaged = np.logical_or.reduce([*signals, flags(outcomes["watched"])]) & (video >= 0) & (user >= 0)
        fraction = np.nan_to_num(floats(outcomes["watch_fraction"]))
        watch_ms = floats(outcomes["watch_ms"]).astype(np.float32)
        ts = micros(outcomes["engaged_at"])
        order = np.flatnonzero(engaged)
        order = order[np.lexsort((ts[order], video[order], user[order]))]
        pair = user[order].astype(np.int64) * len(catalogue) + video[order]
        ever = [running_total(signal[order], pair) > 0 for signal in signals]
        so_far = strength(running_total(fraction[order], pair), *ever)
        by_time = np.lexsort((video[order], ts[order], user[order]))
        order = order[by_time]
        return cls(user[order], video[order], ts[order], so_far[by_time], watch_ms[order], len(users))

    def before(self, ts: int) -> "Interactions":
        """Those strictly before a time (microseconds)."""
        return self.where(self.ts < ts)

    def where(self, keep: NDArray[np.bool_]) -> "Interactions":
        """Those that a mask bool[m] keeps."""
        return Interactions(
            self.user[keep],
            self.video[keep],
            self.ts[keep],
            self.strength[keep],
            self.watch_ms[keep],
            self.n_users,
        )

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """int64[n_users + 1]; rows of user u are start[u]:start[u + 1]."""
        return np.searchsorted(self.user, np.arange(self.n_users + 1)).astype(np.int64)

    @cached_property
    def next_same(self) -> NDArray[np.int64]:
        """int64[m], the row at which the same user meets the same video again; m if never."""
        order = np.lexsort((np.arange(len(self)), self.video, self.user))
        again = (np.diff(self.user[order]) == 0) & (np.diff(self.video[order]) == 0)
        following = np.full(len(self), len(self), np.int64)
        following[order[:-1][again]] = order[1:][again]
        return following

    @cached_property
    def newest(self) -> NDArray[np.bool_]:
        """bool[m], True for the last row of each (user, video)."""
        return np.asarray(self.next_same == len(self))

    def histories(self, user: NDArray[np.int32], ts: NDArray[np.int64], length: int) -> Histories:
        """What each viewer had done strictly before a time of their own.

        Parameters
        ----------
        user: int32[B], codes; -1 for a viewer of whom nothing is known
        ts: int64[B], microseconds
        length: entries at most, the width of the result
        """
        histories = Histories.empty(len(user), length)
        for at in range(0, len(user), CHUNK):
            part = slice(at, at + CHUNK)
            self._gather(np.asarray(user[part]), np.asarray(ts[part]), histories[part])
        return histories

    def _gather(self, user: NDArray[np.int32], ts: NDArray[np.int64], out: Histories) -> None:
        """Fill ``out`` in place. Rows that repeat a video are skipped, so a window may have to widen."""
        length = out.rows.shape[1]
        known = (user >= 0) & (user < self.n_users)
        first = np.where(known, self.start[np.where(known, user, 0)], 0)
        end = np.where(known, self._position(np.where(known, user, 0), ts), 0)
        todo, window = np.flatnonzero(end > first), length
        while todo.size:
            rows = end[todo, None] - 1 - np.arange(window)
            inside = rows >= first[todo, None]
            keep = inside & (self.next_same[np.where(inside, rows, 0)] >= end[todo, None])
            done = (keep.sum(axis=1) >= length) | ~inside[:, -1]
            take = np.argsort(~keep[done], axis=1, kind="stable")[:, :length]
            chosen = np.take_along_axis(rows[done], take, axis=1)
            held = np.take_along_axis(keep[done], take, axis=1)
            chosen[~held] = 0
            into = todo[done]
            out.rows[into] = np.where(held, self.video[chosen], -1)
            out.strength[into] = np.where(held, self.strength[chosen], 0)
            out.age_s[into] = np.where(held, (ts[into, None] - self.ts[chosen]) / SECOND, 0)
            todo, window = todo[~done], window * 2

    def _position(self, user: NDArray[np.int32], ts: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[B], where each user's rows reach a time: a binary search in all ranges at once."""
        low, high = self.start[user].copy(), self.start[user + 1].copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            earlier = open_ & (self.ts[np.minimum(middle, len(self) - 1)] < ts)
            low = np.where(earlier, middle + 1, low)
            high = np.where(open_ & ~earlier, middle, high)
        return low


def running_total(values: NDArray[Any], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cumulative sums within runs of equal ``group``."""
    total = np.cumsum(values, dtype=np.float64)
    fresh = np.flatnonzero(np.diff(group, prepend=-1))
    before = np.where(fresh > 0, total[fresh - 1], 0.0)
    return np.asarray(total - np.repeat(before, np.diff(fresh, append=len(group))))


@dataclass(frozen=True)
class Examples:
    """Labelled (viewer, video, time) triples, arrays of length k.

    Widths of the feature blocks follow the layouts that the ``examples`` step stores beside them.
    """

    user: NDArray[np.int32]
    video: NDArray[np.int32]
    ts: NDArray[np.int64]
    """When it was shown, microseconds."""
    shown: NDArray[np.bool_]
    """False for sampled videos that the viewer was not shown."""
    position: NDArray[np.int32]
    """Place in the slate; -1 unknown."""
    request: NDArray[np.int32]
    """Code of the slate; -1 none."""
    labels: dict[str, NDArray[np.float32]]
    """Per head, float32[k], nan unknown."""
    user_features: NDArray[np.float32]
    """float32[k, du]."""
    video_features: NDArray[np.float32]
    """float32[k, dv]."""
    context: NDArray[np.float32]
    """float32[k, dc]."""

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in _columns(Examples) if name != "labels"} | self.labels
        wrong = [name for name, column in columns.items() if len(column) != len(self.user)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not as long as user, {len(self.user)}")
        if set(self.labels) != set(HEADS):
            raise ValueError(f"labels are {sorted(self.labels)}, not {sorted(HEADS)}")

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Split:
    """Four times, microseconds since 1970 UTC.

    Retrievers learn from what is before ``history_end``; the ranker from [history_end, valid_start), tuned
    on [valid_start, holdout_start); the gate judges on [holdout_start, until). So the ranker never sees
    scores of retrievers that were fitted on its own labels.
    """

    history_end: int
    valid_start: int
    holdout_start: int
    until: int

    def __post_init__(self) -> None:
        if not self.history_end <= self.valid_start <= self.holdout_start <= self.until:
            raise ValueError(f"the times of {self} are not in order")


@dataclass(frozen=True)
class Dataset:
    """Everything that one training run learns from and is judged on."""

    catalogue: Catalogue
    users: list[str]
    interactions: Interactions
    split: Split
    examples: dict[str, Examples] = field(default_factory=dict)
    """By part: train, valid, holdout."""

    @property
    def history(self) -> Interactions:
        """What retrievers may learn from."""
        return self.interactions.before(self.split.history_end)

    def save(self, folder: Path) -> None:
        """Write a folder; what is there is replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        self.catalogue.save(folder / "catalogue.parquet")
        pq.write_table(pa.table({"user_id": pa.array(self.users, pa.string())}), folder / "users.parquet")
        _save_columns(folder / "interactions", self.interactions)
        for part, examples in self.examples.items():
            _save_columns(folder / "examples" / part, examples)
        meta = {"split": asdict(self.split), "parts": list(self.examples)}
        (folder / "dataset.json").write_text(json.dumps(meta, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Dataset":
        """Read what :meth:`save` wrote; arrays are memory-mapped and read-only."""
        with reading("data set", folder, "dataset.json", remedy="run `upnext step examples` first"):
            meta = json.loads((folder / "dataset.json").read_text())
            users = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
            interactions = _load_columns(folder / "interactions", Interactions) | {"n_users": len(users)}
            parts = {
                part: Examples(**_load_columns(folder / "examples" / part, Examples))
                for part in meta["parts"]
            }
            split = Split(**meta["split"])
        return cls(
            Catalogue.load(folder / "catalogue.parquet"), users, Interactions(**interactions), split, parts
        )


def _columns(of: type[Interactions] | type[Examples]) -> list[str]:
    return [entry.name for entry in fields(of) if entry.name != "n_users"]


def _save_columns(folder: Path, rows: Interactions | Examples) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _columns(type(rows)):
        value = getattr(rows, name)
        arrays = (
            {f"label.{head}": label for head, label in value.items()} if name == "labels" else {name: value}
        )
        for file, array in arrays.items():
            np.save(folder / f"{file}.npy", array)


def _load_columns(folder: Path, of: type[Interactions] | type[Examples]) -> dict[str, Any]:
    def read(file: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(folder / f"{file}.npy", mmap_mode="r")
        return array

    columns: dict[str, Any] = {name: read(name) for name in _columns(of) if name != "labels"}
    if of is Examples:
        columns["labels"] = {head: read(f"label.{head}") for head in HEADS}
    return columns
