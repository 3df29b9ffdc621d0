"""Binding what must match into one bundle, and registering it."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from components.examples import load_layouts
from components.pipeline import Job, Outcome
from components.runner import Report
from feature_repo.offline import aligned, defaults
from feature_repo.rows import keep_catalogue, write_rows
from feature_repo.specs import VIDEO
from models.bundle import INDICES, OPTIONAL, REQUIRED, Bundle, Manifest, assemble, check
from models.catalogue import Catalogue
from models.dataset import Dataset
from models.exposure import Exposure
from models.popularity import Popularity
from models.towers import Towers
from upnext import tracking
from upnext.ports import Lake
from upnext.releases import Releases
from upnext.stores import connect
from upnext.times import microseconds, moment


def bind(
    job: Job,
    out: Path,
    at: datetime | None = None,
    indices: Mapping[str, Path] | None = None,
    retrievers: str = "served",
) -> Path:
    """Assemble the interval's models into a bundle as of a time, by default that of the hold-out's start.

    Popularity, also the share of it in the towers' vectors, and the videos' features are those of that time:
    nothing later reaches the bundle. indices: of INDICES -> where it lies; none by default. retrievers: which
    of those that ``als`` fitted; those of ``before_valid`` know nothing of the validation window.
    """
    data = Dataset.load(job.input("examples"))
    at = at or moment(data.split.holdout_start)
    layouts = load_layouts(job.input("examples"))
    towers = job.input("two_tower") / "model"
    with connect(job.settings) as stores:
        timed = _parts_as_of(stores.lake, at, data.catalogue, towers, out.parent / "parts")
    parts = {
        **timed,
        "catalogue.parquet": job.input("examples") / "catalogue.parquet",
        "als": job.input("als") / retrievers / "model",
        "neighbours": job.input("als") / retrievers / "neighbours",
        "ranker": job.input("ranker") / "model",
        "weights.json": job.input("ranker") / "weights.json",
    }
    if (blend := job.input("blend") / "blend.json").exists():  # not yet while the blend itself is fitted
        parts["blend.json"] = blend
    parts |= indices or {}
    versions = Report.read(job.input("ingest"))
    meta = {
        "as_of": at.isoformat(),
        "until": job.end.isoformat(),
        "learned_until": moment(data.split.holdout_start).isoformat(),
        "source": job.source,
        "data_versions": versions.data_versions if versions else {},
        "layouts": {view: json.loads(layout.to_json()) for view, layout in layouts.items()},
    }
    return assemble(parts, out, meta)


def rebind(lake: Lake, bundle: Path, at: datetime, out: Path) -> Path:
    """A bundle with its own models and catalogue, and all else as :func:`bind` makes it of a time.

    Its indices go: the towers' holds the vectors of another time, and rivals are searched exactly.
    """
    manifest = Manifest.read(bundle)
    check(bundle, manifest)  # the copy's sums are new, and would hide what is broken
    catalogue = Catalogue.load(bundle / "catalogue.parquet")
    kept = [name for name in REQUIRED + OPTIONAL if name not in INDICES and (bundle / name).exists()]
    timed = _parts_as_of(lake, at, catalogue, bundle / "towers", out.parent / f"{out.name}-parts")
    layouts = {view: json.loads(layout.to_json()) for view, layout in manifest.layouts.items()}
    parts = {name: bundle / name for name in kept} | timed
    return assemble(parts, out, {**manifest.meta, "as_of": at.isoformat(), "layouts": layouts})


def _parts_as_of(lake: Lake, at: datetime, catalogue: Catalogue, towers: Path, work: Path) -> dict[str, Path]:
    """The parts that go with the time, written to ``work``: name within a bundle -> where it lies."""
    work.mkdir(parents=True, exist_ok=True)
    outcomes = lake.read("outcomes")
    popularity = Popularity.of(outcomes, catalogue, microseconds(at))
    popularity.save(work / "popularity.npz")
    Exposure.of(outcomes, catalogue, popularity.as_of).save(work / "exposure.npz")
    np.save(work / "video_features.npy", aligned(lake, VIDEO.name, at, catalogue.ids))
    dated = popularity.scores(), catalogue.uploaded_at, popularity.as_of
    Towers.load(towers).with_popularity(*dated).save(work / "towers")
    return {name: work / name for name in ("popularity.npz", "exposure.npz", "video_features.npy", "towers")}


def release(job: Job) -> Outcome:
    """Bind the final bundle as of the interval's end, register it, and make it the champion."""
    indices = {"index": job.input("index") / "model", "als_index": job.input("als") / "served" / "index"}
    there = {name: path for name, path in indices.items() if path.is_dir()}  # a small catalogue needs none
    bundle = bind(job, job.out / "bundle", job.end, there)
    loaded = Bundle.load(bundle)  # what cannot be loaded must not be registered
    gate = Report.read(job.input("gate"))
    metrics = gate.metrics if gate else {}
    run = tracking.log_run(
        job.settings,
        "release",
        params={"until": job.end.isoformat(), "source": job.source},
        metrics=metrics,
        tags={"upnext.step": "release"},
        artifacts={"bundle": bundle},
    )
    hand_over_rows(loaded, job.settings.state)
    releases = Releases(job.settings)
    version = releases.register(run, "bundle", tags={"until": job.end.isoformat()})
    releases.promote(version)
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    metrics = {"version": float(version), "megabytes": round(size / 1e6, 1)}
    return Outcome(metrics, details={"version": version})


def hand_over_rows(bundle: Bundle, root: Path) -> None:
    """Put the bundle's video features where serving looks for newer ones, and have those written hourly."""
    manifest, ids = bundle.manifest, bundle.catalogue.ids
    keep_catalogue(root, ids)
    layout = manifest.layouts[VIDEO.name]
    features = bundle.video_features
    write_rows(root, VIDEO.name, layout, manifest.as_of, list(ids), features, defaults(VIDEO.name))
