"""Binding what must match into one bundle, and registering it."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np

from components.examples import load_layouts
from components.pipeline import Job, Outcome
from components.runner import Report
from feature_repo.offline import aligned, defaults
from feature_repo.rows import keep_catalogue, write_rows
from feature_repo.specs import VIDEO
from models.bundle import Bundle, assemble
from models.dataset import Dataset
from models.exposure import Exposure
from models.popularity import Popularity
from models.towers import Towers
from upnext import tracking
from upnext.releases import Releases
from upnext.stores import connect
from upnext.times import microseconds, moment


def bind(job: Job, out: Path, at: datetime | None = None, index: Path | None = None) -> Path:
    """Assemble the interval's models into a bundle as of a time, by default that of the hold-out's start.

    Popularity, also the share of it in the towers' vectors, and the videos' features are those of that time:
    nothing later reaches the bundle.
    """
    data = Dataset.load(job.input("examples"))
    at = at or moment(data.split.holdout_start)
    layouts = load_layouts(job.input("examples"))
    work = out.parent / "parts"
    work.mkdir(parents=True, exist_ok=True)
    with connect(job.settings) as stores:
        outcomes = stores.lake.read("outcomes")
        popularity = Popularity.of(outcomes, data.catalogue, microseconds(at))
        popularity.save(work / "popularity.npz")
        Exposure.of(outcomes, data.catalogue, popularity.as_of).save(work / "exposure.npz")
        np.save(work / "video_features.npy", aligned(stores.lake, VIDEO.name, at, data.catalogue.ids))
    towers = Towers.load(job.input("two_tower") / "model").with_popularity(popularity.scores())
    towers.save(work / "towers")
    parts = {
        "catalogue.parquet": job.input("examples") / "catalogue.parquet",
        "popularity.npz": work / "popularity.npz",
        "exposure.npz": work / "exposure.npz",
        "video_features.npy": work / "video_features.npy",
        "als": job.input("als") / "model",
        "neighbours": job.input("als") / "neighbours",
        "towers": work / "towers",
        "ranker": job.input("ranker") / "model",
        "weights.json": job.input("ranker") / "weights.json",
    }
    if index is not None:
        parts["index"] = index
    versions = Report.read(job.input("ingest"))
    meta = {
        "as_of": at.isoformat(),
        "until": job.end.isoformat(),
        "source": job.source,
        "data_versions": versions.data_versions if versions else {},
        "layouts": {view: json.loads(layout.to_json()) for view, layout in layouts.items()},
    }
    return assemble(parts, out, meta)


def release(job: Job) -> Outcome:
    """Bind the final bundle as of the interval's end, register it, and make it the champion."""
    bundle = bind(job, job.out / "bundle", job.end, job.input("index") / "model")
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
