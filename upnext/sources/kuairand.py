"""KuaiRand (Gao et al., CIKM 2022, kuairand.com): short-video logs of Kuaishou, in the official layout.

Each row of ``log_*.csv`` is one video shown to one user: an impression and, by its flags, a click, a watch
(play_time_ms > 0), a like, a share (is_forward) and a not_interested (is_hate), all at time_ms, joined by a
request_id of the row's own. The scenario ``tab`` becomes the surface ``tab<n>``.

``user_sequences_*.parquet``, where present, has per user the last videos watched before the log, in order
and without times but for the last one's. They are laid out evenly over the two weeks that end there: a
video of ``long_watch_seq`` as a watch of unknown time, any other as a click, one of ``like_seq`` as a like
besides.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upnext.contracts import UtcTime
from upnext.sources.base import Tables, existing_folder, find, find_some, mapped, slug
from upnext.sources.cells import convert
from upnext.sources.checks import typed_rows
from upnext.sources.ids import row_ids
from upnext.sources.rawfiles import demand, read_csv, readable
from upnext.sources.segments import segments

_LOG = {
    "user_id": pa.string(),
    "video_id": pa.string(),
    "time_ms": pa.int64(),
    "is_click": pa.int64(),
    "is_like": pa.int64(),
    "is_forward": pa.int64(),
    "is_hate": pa.int64(),
    "play_time_ms": pa.int64(),
    "tab": pa.string(),
}
_FLAGS = {"click": "is_click", "watch": "play_time_ms", "like": "is_like", "share": "is_forward"}
_TWO_WEEKS_MS = 14 * 86_400_000


class KuaiRandSource:
    """``kuairand:DIR``; Pure, 1K and 27K alike."""

    timed = True

    def __init__(self, folder: str) -> None:
        self.folder = existing_folder(folder, "kuairand")
        self._logs = find_some(self.folder, "log_*.csv")
        edition = self._logs[0].name.split(".")[0].rsplit("_", 1)[-1]
        self.dataset = slug(f"kuairand_{edition}")

    def videos(self) -> Tables:
        columns = ("author_id", "upload_dt", "video_duration", "tag")
        for path in find_some(self.folder, "video_features_basic*.csv"):
            yield from mapped(read_csv(path, "videos", ["video_id", *columns], ()), _videos)

    def users(self) -> Tables:
        for path in find(self.folder, "user_features*.csv"):
            yield from mapped(read_csv(path, "users", ["user_id"]), segments)

    def events(self, since: datetime | None = None) -> Tables:
        for path in sorted(self.folder.glob("user_sequences*.parquet")):
            yield from _sequences(path)
        for path in self._logs:
            raw = read_csv(path, "events", list(_LOG), ())
            yield from mapped(typed_rows(raw, _LOG, "events", str(path)), _events)


def _videos(raw: pa.Table) -> pa.Table:
    """Catalogue columns; the tag column holds up to several tag ids, of which the first is the category."""
    tags = pc.split_pattern(raw["tag"], ",")
    duration, _ = convert(raw["video_duration"], pa.float64())
    return pa.table(
        {
            "video_id": raw["video_id"],
            "tags": tags,
            "category": pc.list_element(tags, 0),
            "creator_id": raw["author_id"],
            "duration_ms": pc.if_else(pc.greater(duration, 0.0), pc.round(duration).cast(pa.int64()), None),
            "uploaded_at": raw["upload_dt"],
        }
    )


def _events(rows: pa.Table) -> pa.Table:
    """The events of log rows, in the rows' order; an impression before what came of it."""
    request = row_ids(*(rows[name] for name in _LOG))
    common = {
        "user_id": rows["user_id"],
        "video_id": rows["video_id"],
        "timestamp": pc.cast(pc.multiply(rows["time_ms"], 1000), pa.timestamp("us")).cast(UtcTime),
        "request_id": request,
        "surface": pc.binary_join_element_wise("tab", rows["tab"], ""),
    }
    kinds = [("impression", None)]
    kinds += [(kind, pc.greater(rows[flag], 0)) for kind, flag in _FLAGS.items()]
    kinds += [("not_interested", pc.greater(rows["is_hate"], 0))]
    parts, places = [], []
    for kind, happened in kinds:
        part = pa.table({**common, "play": rows["play_time_ms"], "place": np.arange(len(rows))})
        part = part if happened is None else part.filter(happened)
        played = part["play"] if kind == "watch" else pa.nulls(len(part), pa.int64())
        places.append(part["place"].to_numpy())
        part = part.drop_columns(["play", "place"]).append_column("watch_duration_ms", played)
        part = part.append_column("event_type", pa.array([kind]).take(pa.array(np.zeros(len(part), int))))
        parts.append(part.append_column("event_id", row_ids(part["request_id"], kind)))
    return pa.concat_tables(parts).take(np.argsort(np.concatenate(places), kind="stable"))


def _sequences(path: Path) -> Iterator[pa.Table]:
    """What users watched before the log; see the module's text for the times."""
    needed = ["user_id", "last_time_ms", "watch_seq", "like_seq", "long_watch_seq"]
    with readable(path):
        file = pq.ParquetFile(path)
        demand(path, file.schema_arrow.names, needed)
        newest = pc.max(file.read(["last_time_ms"])["last_time_ms"]).as_py()
        for batch in file.iter_batches(8_192, columns=needed):
            yield _sequence_events(batch, (newest or 0) - _TWO_WEEKS_MS)


def _sequence_events(batch: pa.RecordBatch, start_ms: int) -> pa.Table:
    """Entry i of a user's n lies at start + (i + 1) / n of the way to the time of the last one."""
    lists = batch["watch_seq"]
    owner = pc.list_parent_indices(lists).to_numpy()
    video = pc.list_flatten(lists).to_numpy()
    size = np.bincount(owner, minlength=len(batch))
    place = np.arange(len(owner)) - (np.cumsum(size) - size)[owner]
    last = np.maximum(batch["last_time_ms"].to_numpy(), start_ms)[owner]
    time_ms = start_ms + ((last - start_ms) * (place + 1)) // np.maximum(size[owner], 1)
    user = pc.take(batch["user_id"].cast(pa.string()), pa.array(owner))
    entries = pa.table(
        {
            "user_id": user,
            "video_id": pa.array(video).cast(pa.string()),
            "timestamp": pa.array(time_ms * 1000, pa.timestamp("us")).cast(UtcTime),
            "event_type": np.where(_among(batch["long_watch_seq"], owner, video), "watch", "click"),
            "event_id": row_ids(user, pa.array(video), pa.array(place), "seen"),
        }
    )
    likes = entries.filter(pa.array(_among(batch["like_seq"], owner, video)))
    likes = likes.set_column(3, "event_type", pa.array(["like"] * len(likes)))
    likes = likes.set_column(4, "event_id", row_ids(likes["event_id"], "like"))
    return pa.concat_tables([entries, likes])


def _among(lists: pa.Array, owner: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Whether each (owner, video) is in the owner's list: bool[n]."""
    span = np.int64(1) << 40
    pairs = pc.list_parent_indices(lists).to_numpy() * span + pc.list_flatten(lists).to_numpy()
    return np.isin(owner * span + video, pairs)
