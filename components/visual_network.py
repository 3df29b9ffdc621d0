"""Training and running the network of step ``visual``.

A network is kept while it still knows most of the catalogue; then only new videos are read. Vectors of two
networks can't be compared, so with a new network all are written anew, in one commit.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.pipeline import Job
from components.quality.rows import put_away
from components.split import split_times, time_span
from components.visual_table import CHUNK, SCHEMA
from feature_repo.vectors import VISUAL_TABLE
from models.columns import codes, distinct, micros
from models.visual import Pictures, Targets, VisualConfig, VisualNet, train
from models.visual_export import NETWORK, PictureEncoder, export, resume
from upnext.errors import DataError
from upnext.ports import Lake
from upnext.sources.base import Pictured

ABOUT = "visual.json"
LONG = 0.5
"""Watch fraction from which two videos watched in a row count as alike."""
TOGETHER_US = 3_600_000_000
"""Microseconds within which the second of them is watched."""
MOST_PAIRS = 200_000


@dataclass(frozen=True)
class Result:
    """What the step did, in videos."""

    network: str
    embedded: int
    """Read now."""
    known: int
    """With a vector afterwards."""
    refused: int
    """Thumbnails that could not be used."""
    trained: bool = False
    loss: float = float("nan")


@dataclass(frozen=True)
class Work:
    """One run over the catalogue."""

    job: Job
    lake: Lake
    source: Pictured
    config: VisualConfig
    told: Callable[[int, int | None], None] = lambda done, total: None

    def run(self) -> Result:
        """Bring the table up to date, with the network of the settings, the one kept, or a new one."""
        brought = self.job.settings.visual_backbone
        if brought is not None:
            return self._embed(PictureEncoder.load(brought))
        kept = _earlier(self.job)
        if kept is not None:
            result = self._embed(PictureEncoder.load(kept / NETWORK))
            if result.known <= (1 + self.config.grown) * _trained_for(kept):
                shutil.copytree(kept, self.job.out / "model")
                return result
        return self._retrain(kept)

    def _embed(self, encoder: PictureEncoder) -> Result:
        """Give a vector of this network to every video with a thumbnail that has none."""
        known, parts, refused = self._known(encoder.name), [], 0
        ids = self.lake.read("videos", ["video_id"])["video_id"].sort()
        ids = ids.filter(pc.invert(pc.is_in(ids, value_set=known))).to_pylist()
        for done, (names, pictures, bad) in enumerate(self._thumbnails(ids), 1):
            refused += bad
            parts.append(_rows(names, encoder.encode(pictures), encoder.name))
            self.told(min(done * CHUNK, len(ids)), len(ids))
        new = pa.concat_tables([SCHEMA.empty_table(), *parts])
        if len(known):
            self.lake.merge(VISUAL_TABLE, new, ["video_id"], update=True)
        else:
            self.lake.overwrite(VISUAL_TABLE, new)
        return Result(encoder.name, len(new), len(known) + len(new), refused)

    def _retrain(self, kept: Path | None) -> Result:
        """Train on some of the videos, from an earlier network where there is one, and read them all."""
        names, pictures = self._sample()
        net, loss = train(pictures, self._targets(names), self.config, _start(kept, self.config))
        model = self.job.out / "model"
        result = self._embed(export(net, model, pictures[:4]))
        (model / ABOUT).write_text(json.dumps({"videos": result.known}))
        return replace(result, trained=True, loss=loss)

    def _known(self, network: str) -> pa.Array:
        """Ids of the videos that have a vector of a network."""
        if self.lake.version(VISUAL_TABLE) < 0:
            return pa.array([], pa.string())
        table = self.lake.scan(VISUAL_TABLE).to_table(
            columns=["video_id"], filter=ds.field("network") == network
        )
        return table["video_id"].combine_chunks()

    def _thumbnails(self, ids: Sequence[str]) -> Iterator[tuple[list[str], Pictures, int]]:
        """By chunk: ids that have one, the pictures, and how many could not be used."""
        for at in range(0, len(ids), CHUNK):
            some = ids[at : at + CHUNK]
            found = self.source.thumbnails(some)
            put_away(self.lake, found.refused)
            there = np.flatnonzero(found.there)
            yield [some[row] for row in there], found.pixels[there], len(found.refused)

    def _sample(self) -> tuple[list[str], Pictures]:
        """Videos with their thumbnails, at random, as many as are held for training."""
        ids = self.lake.read("videos", ["video_id"])["video_id"].sort()
        order = np.random.default_rng(self.config.seed).permutation(len(ids))
        names: list[str] = []
        pictures = []
        for some, found, _ in self._thumbnails(ids.take(pa.array(order)).to_pylist()):
            names += some
            pictures.append(found)
            if len(names) >= self.config.videos:
                break
        return names[: self.config.videos], np.concatenate(pictures)[: self.config.videos]

    def _targets(self, names: list[str]) -> Targets:
        videos = self.lake.read("videos", ["video_id", "tags", "category"])
        videos = videos.take(pa.array(codes(pa.array(names), videos["video_id"])))
        category = codes(videos["category"], distinct(videos["category"]))
        pairs = co_watched(self.lake, self.job, names)
        return Targets.of(videos["tags"].to_pylist(), category, pairs, self.config.tags)


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


def _rows(names: list[str], vectors: NDArray[np.float32], network: str) -> pa.Table:
    ends = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(vectors.ravel()))
    return pa.table([names, lists, [network] * len(names)], schema=SCHEMA)


def _earlier(job: Job) -> Path | None:
    """The newest network of an earlier interval that can be read; None where there is none."""
    runs, interval = job.out.parent.parent, job.out.parent.name
    for file in sorted(runs.glob(f"*Z/{job.out.name}/model/{ABOUT}"), reverse=True):
        if file.parent.parent.parent.name < interval:
            try:
                PictureEncoder.load(file.parent / NETWORK)
                _trained_for(file.parent)
            except (DataError, ValueError, KeyError):
                continue
            return file.parent
    return None


def _trained_for(model: Path) -> int:
    return int(json.loads((model / ABOUT).read_text())["videos"])


def _start(kept: Path | None, config: VisualConfig) -> VisualNet | None:
    if kept is None:
        return None
    try:
        return resume(kept, config)
    except DataError:
        return None  # of other widths, or damaged: a new one is as good
