"""Step ``visual``: thumbnails -> the lake's table ``visual_embeddings``, and how others read it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.pipeline import Job, Outcome
from components.split import split_times, time_span
from components.steps import params_of, progress, step_config
from feature_repo.vectors import VISUAL_TABLE, looks
from models.columns import codes, micros
from upnext.ports import Lake
from upnext.sources import open_source
from upnext.sources.base import Pictured
from upnext.stores import connect

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("visual", pa.list_(pa.float32()), nullable=False),  # of length 32
        pa.field("network", pa.string(), nullable=False),  # digest of the network that made it
    ]
)
LONG = 0.5
"""Watch fraction from which two videos watched in a row count as alike."""
TOGETHER_US = 3_600_000_000
"""Microseconds within which the second of them is watched."""
MOST_PAIRS = 200_000
CHUNK = 1024
"""Videos whose thumbnails are held at once outside training."""


def visual(job: Job) -> Outcome:
    """Thumbnails -> a vector for each video that has one; nothing to do where the source has none."""
    source = open_source(job.source, job.settings)
    with connect(job.settings) as stores, progress("thumbnails") as told:
        ids = stores.lake.read("videos", ["video_id"])["video_id"].sort()
        if not isinstance(source, Pictured) or not _any(source, ids.to_pylist()):
            return Outcome({"videos": 0.0})
        # torch takes seconds to load, and most sources have no pictures.
        from components.visual_network import Work
        from models.visual import VisualConfig

        config = step_config(job, "visual", VisualConfig)
        result = Work(job, stores.lake, source, config, told).run()
        versions = {VISUAL_TABLE: stores.lake.version(VISUAL_TABLE)}
    figures = {"videos": result.known, "embedded": result.embedded, "refused": result.refused}
    return Outcome(
        {name: float(value) for name, value in figures.items()} | {"loss": result.loss},
        params_of(config),
        versions,
        {"network": result.network, "trained": result.trained},
    )


def visual_of(lake: Lake, video_ids: Sequence[str] | NDArray[np.object_]) -> NDArray[np.float32]:
    """float32[n, 32], vectors of videos as the lake has them; zeros where there is none."""
    return looks(pa.array(video_ids, pa.string()), visual_table(lake))


def visual_table(lake: Lake) -> pa.Table | None:
    """``video_id`` and ``visual`` of all videos that have a vector; None before any had one."""
    return lake.read(VISUAL_TABLE, ["video_id", "visual"]) if lake.version(VISUAL_TABLE) >= 0 else None


def co_watched(lake: Lake, job: Job, video_ids: Sequence[str]) -> NDArray[np.int64]:
    """int64[p, 2], places in ``video_ids`` of videos that somebody watched one after the other.

    Only what the retrievers may learn from counts, so that the gate judges on what nobody has seen.
    """
    until = split_times(*time_span(lake, job.end)).history_end
    log = lake.scan("outcomes").to_table(
        columns=["user_id", "video_id", "engaged_at"], filter=ds.field("watch_fraction") >= LONG
    )
    log = log.sort_by([(name, "ascending") for name in ("user_id", "engaged_at", "video_id")])
    video = codes(log["video_id"], video_ids).astype(np.int64)
    viewer = np.asarray(log["user_id"].combine_chunks().dictionary_encode().indices)
    time = micros(log["engaged_at"])
    met = (viewer[1:] == viewer[:-1]) & (time[1:] - time[:-1] < TOGETHER_US) & (time[1:] < until)
    met &= (video[1:] >= 0) & (video[:-1] >= 0) & (video[1:] != video[:-1])
    pairs = np.stack([video[:-1][met], video[1:][met]], axis=1)
    some = np.random.default_rng(0).permutation(len(pairs))[:MOST_PAIRS]
    return pairs[np.sort(some)]


def _any(source: Pictured, ids: Sequence[str]) -> bool:
    chunks = (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))
    return any(source.thumbnails(some).there.any() for some in chunks)
