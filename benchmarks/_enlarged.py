"""A real release enlarged: the models that it learned, over a catalogue and an audience many times as large.

Every video is repeated under ids of its own, and its vectors are moved a little, so that no two are one. All
that a request does grows as it would with so many real videos: searches, look-ups, caches, memory. What is
recommended means nothing.
"""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.offline import snapshot
from feature_repo.packed import PackedFeatures
from feature_repo.rows import keep_catalogue, write_rows
from feature_repo.specs import USER_VIEW, VIDEO_VIEW
from models.bundle import Bundle, assemble
from models.catalogue import Catalogue
from models.exposure import Exposure
from models.history import Histories
from models.index import build_index
from models.neighbours import Neighbours, width
from upnext.contracts import EVENTS, USERS, UtcTime
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.stores import connect
from upnext.times import microseconds

NOISE = 0.3
"""Length of what is added to a vector, as a share of its own."""
TASTES = 3
"""Videos that a user's past is around."""
WRITTEN = 50_000
"""Rows written to a store at once."""


def enlarge(bundle: Bundle, videos: int, out: Path, seed: int = 0) -> Path:
    """Write a bundle of so many videos, made of a smaller one's."""
    if videos < len(bundle.catalogue):
        raise ValueError(f"{videos} videos are fewer than the {len(bundle.catalogue)} of {bundle.folder}")
    rng = np.random.default_rng(seed)
    catalogue, source = _catalogue(bundle.catalogue, videos)
    share = (1 / (1 + rng.permutation(videos) * len(bundle.catalogue) / videos)).astype(np.float32)
    popularity = replace(bundle.popularity, counts=bundle.popularity.counts[:, source] * share)
    als = replace(
        bundle.als,
        factors=_moved(bundle.als.factors[source], rng),
        weight=bundle.als.weight[source],
        ridge=bundle.als.ridge * videos / len(bundle.catalogue),
    )
    towers = replace(
        bundle.towers,
        items=_moved(bundle.towers.items[source], rng),
        embeddings=_moved(bundle.towers.embeddings[source], rng),
        prior=bundle.towers.prior and replace(prior := bundle.towers.prior, videos=prior.videos[source]),
    ).with_popularity(popularity.scores())
    near = _neighbours(bundle.neighbours, source, rng)
    asking = _some_pasts(near, int(towers.meta["length"]), rng)
    exposure = Exposure(bundle.exposure.impressions[source], bundle.exposure.successes[source])
    with TemporaryDirectory(dir=out.parent) as folder:
        work = Path(folder)
        catalogue.save(work / "catalogue.parquet")
        popularity.save(work / "popularity.npz")
        exposure.save(work / "exposure.npz")
        als.save(work / "als")
        towers.save(work / "towers")
        near.save(work / "neighbours")
        build_index(als.factors, als.fold_in(asking)).save(work / "als_index")
        build_index(towers.items, towers.encode(asking)).save(work / "index")
        np.save(work / "video_features.npy", bundle.video_features[source])
        parts = {path.name: path for path in work.iterdir()}
        for name in ("ranker", "weights.json"):
            parts[name] = bundle.folder / name
        manifest = json.loads((bundle.folder / "manifest.json").read_text())
        return assemble(parts, out, {"as_of": manifest["as_of"], "layouts": manifest["layouts"]})


def fill_stores(
    bundle: Bundle, lake: Lake, settings: Settings, at: datetime, users: int, active: int, seed: int = 1
) -> list[str]:
    """Features of so many users, and profiles and pasts of the ``active`` ones, whose ids are returned."""
    rng = np.random.default_rng(seed)
    ids = [f"u{number:08d}" for number in range(users)]
    rows, layouts = snapshot(lake, USER_VIEW, at)[1], bundle.manifest.layouts
    keep_catalogue(settings.state, bundle.catalogue.ids)
    missing = np.zeros(layouts[VIDEO_VIEW].width, np.float32)
    now = microseconds(at)
    with connect(settings) as stores:
        features = PackedFeatures(stores.online_features, layouts)
        for start in range(0, users, WRITTEN):
            part = ids[start : start + WRITTEN]
            features.write_matrix(USER_VIEW, part, rows[rng.integers(0, len(rows), len(part))], now)
        for start in range(0, active, WRITTEN):
            part = ids[start : min(start + WRITTEN, active)]
            stores.profiles.put(_profiles(part, bundle.popularity.regions, rng))
            stores.history.add(_pasts(part, bundle, now, rng))
    write_rows(
        settings.state,
        VIDEO_VIEW,
        layouts[VIDEO_VIEW],
        at,
        bundle.catalogue.ids.tolist(),
        np.nan_to_num(bundle.video_features),
        missing,
    )
    return ids[:active]


def _catalogue(small: Catalogue, videos: int) -> tuple[Catalogue, NDArray[np.int64]]:
    """The larger catalogue, and the row int64[videos] in the small one that each of its rows repeats."""
    source = np.arange(videos) % len(small)
    copies = (np.arange(videos) // len(small)).astype(str)
    ids = np.char.add(np.char.add(small.ids.astype(str)[source], "~"), copies)
    table = small.table.take(pa.array(source)).set_column(0, "video_id", pa.array(ids))
    large = Catalogue.of(table)
    return large, small.rows([video_id.split("~")[0] for video_id in large.ids]).astype(np.int64)


def _moved(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The vectors with some noise, as long as they were."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = rng.standard_normal(vectors.shape, np.float32) * np.float32(NOISE / vectors.shape[1] ** 0.5)
    moved = vectors + noise * length
    scale = length / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
    return (moved * scale).astype(np.float32)


def _neighbours(small: Neighbours, source: NDArray[np.int64], rng: np.random.Generator) -> Neighbours:
    """Each neighbour is one of the copies of what was one of the original; as many as a fit would keep."""
    k = width(len(source))
    small = Neighbours(small.rows[:, :k], small.scores[:, :k])
    order = np.argsort(source, kind="stable").astype(np.int32)
    starts = np.searchsorted(source[order], np.arange(len(small.rows) + 1))
    rows = np.full((len(source), small.rows.shape[1]), -1, np.int32)
    for start in range(0, len(source), WRITTEN):
        near = small.rows[source[start : start + WRITTEN]]
        first, after = starts[np.maximum(near, 0)], starts[np.maximum(near, 0) + 1]
        rows[start : start + WRITTEN] = np.where(near >= 0, order[rng.integers(first, after)], -1)
    return Neighbours(rows, small.scores[source])


def _watched(near: Neighbours, viewers: int, length: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """int32[viewers, length], rows: what others watched who watched the same few videos."""
    favourites = rng.integers(0, len(near.rows), (viewers, TASTES), dtype=np.int32)
    seeds = np.take_along_axis(favourites, rng.integers(0, TASTES, (viewers, length)), axis=1)
    which = rng.integers(0, near.rows.shape[1], (viewers, length))
    return np.where(near.scores[seeds, which] > 0, near.rows[seeds, which], seeds)


def _some_pasts(near: Neighbours, length: int, rng: np.random.Generator, viewers: int = 512) -> Histories:
    age_s = np.sort(rng.exponential(86_400, (viewers, length)).astype(np.float32), axis=1)
    return Histories(_watched(near, viewers, length, rng), np.ones((viewers, length), np.float32), age_s)


def _profiles(ids: list[str], regions: tuple[str, ...], rng: np.random.Generator) -> pa.Table:
    named = {"user_id": ids, "region": rng.choice(np.asarray(regions), len(ids)).tolist()}
    return pa.table([named.get(field.name, [None] * len(ids)) for field in USERS], schema=USERS)


def _pasts(ids: list[str], bundle: Bundle, now: int, rng: np.random.Generator) -> pa.Table:
    """A few dozen watches of each user, within the last days."""
    catalogue, most = bundle.catalogue, 60
    there = np.arange(most) < rng.integers(5, most, (len(ids), 1))
    users = np.repeat(np.asarray(ids), there.sum(axis=1))
    videos = _watched(bundle.neighbours, len(ids), most, rng)[there]
    columns = {
        "event_id": np.char.add(np.char.add(users, "-"), np.arange(len(users)).astype(str)),
        "user_id": users,
        "event_type": np.full(len(users), "watch"),
        "video_id": catalogue.ids[videos],
        "watch_duration_ms": (1e3 * catalogue.duration_s[videos] * rng.random(len(users))).astype(np.int64),
        "timestamp": now - rng.exponential(3 * 86_400e6, len(users)).astype(np.int64),
    }
    arrays = [
        pa.array(columns[field.name], UtcTime if field.name == "timestamp" else field.type)
        if field.name in columns
        else pa.nulls(len(users), field.type)
        for field in EVENTS
    ]
    return pa.table(arrays, schema=EVENTS)
