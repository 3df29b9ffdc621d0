"""The pipeline's steps: each opens what it needs, calls the part that does the work, and reports on it."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.pipeline import Job, Outcome
from components.progress import progress
from upnext.errors import DataError, EmptyData
from upnext.ports import Lake
from upnext.stores import connect
from upnext.times import microseconds, moment

if TYPE_CHECKING:
    from models.dataset import Dataset
    from models.two_tower import TwoTowerConfig
    from models.two_tower_net import TwoTower

HOUR = timedelta(hours=1)
ASKING = 1_000
"""Viewers whose vectors measure the index's recall: one half to tune it, one to judge."""


def ingest(job: Job) -> Outcome:
    """Source -> Delta tables videos, users, events, quarantine, outcomes, logged_features, exposures."""
    import pyarrow.compute as pc

    from components import exposures, feature_log
    from components.ingest import ingest as bring_in
    from upnext.erased import Erased
    from upnext.sources import open_source
    from upnext.sources.base import FeatureSource, Resumable

    source = open_source(job.source, job.settings)
    with connect(job.settings) as stores, progress("events") as told:
        erased = partial(Erased.read, stores.erasures, job.settings)
        counts = bring_in(
            source,
            stores.lake,
            job.until,
            name=job.source,
            erased=erased,
            progress=lambda rows: told(rows, None),
        )
        if isinstance(source, FeatureSource):
            oldest = datetime.now(UTC) - timedelta(days=job.settings.event_retention_days)
            counts["logged_features"] = feature_log.bring_in(source, stores.lake, oldest, erased)
        if isinstance(source, Resumable):
            counts["exposures"] = exposures.bring_in(stores.experiments, stores.lake, erased())
        newest = pc.max(stores.lake.read("events", ["timestamp"])["timestamp"]).as_py()
        versions = _versions(stores.lake, "events", "videos", "users", "outcomes", feature_log.TABLE)
    reasons = counts.pop("reasons")
    return Outcome(
        metrics={name: float(str(value)) for name, value in counts.items()},
        data_versions=versions,
        details={
            "until": (job.until or _next_hour(newest)).isoformat(),
            "timed": source.timed,
            "quarantined": reasons,
        },
    )


def features(job: Job) -> Outcome:
    """Outcomes, videos, users -> snapshots of features, daily since the ranker's window and at its splits."""
    from components.features import build_features
    from components.split import split_times, time_span

    with connect(job.settings) as stores, progress("snapshots") as told:
        first, until = time_span(stores.lake, job.end)
        split = split_times(first, until)
        times = [moment(at) for at in (split.valid_start, split.holdout_start)]
        # No example is older than history_end, so no older snapshot is ever joined.
        metrics = build_features(stores.lake, moment(split.history_end), until, times, progress=told)
        versions = _versions(stores.lake, "outcomes", "features_user", "features_video", "features_creator")
    metrics.pop("seconds")
    return Outcome(metrics, data_versions=versions)


def materialise(job: Job) -> Outcome:
    """Newest features, catalogue, profiles and recent engagement -> the online stores."""
    from components.materialise import materialise as fill

    with connect(job.settings) as stores, progress("rows") as told:
        return Outcome(fill(stores, job.settings, job.end, progress=told))


def examples(job: Job) -> Outcome:
    """Outcomes and features of their time -> the data set that the models learn from."""
    from components.examples import ExamplesConfig, build_examples

    config = job.config("examples", ExamplesConfig)
    with connect(job.settings) as stores, progress("examples") as told:
        data = build_examples(stores.lake, job.settings, job.end, config, progress=told)
    data.save(job.out)
    sizes = {f"{part}_examples": float(len(rows)) for part, rows in data.examples.items()}
    return Outcome(
        {
            **sizes,
            "interactions": float(len(data.interactions)),
            "videos": float(len(data.catalogue)),
            "logged_share": data.logged_share,
            "logged_ignored": float(data.logged_ignored),
        },
        params=asdict(config),
        details={name: moment(at).isoformat() for name, at in asdict(data.split).items()},
    )


def als(job: Job) -> Outcome:
    """Interactions -> item factors and neighbours of three times: for the ranker, the blend, and to serve.

    The ranker may only hear of its examples what was known before its window, the blend what was known
    before the validation window that it is fitted on. What serves knows all that happened before the
    hold-out, and has an index where videos are many.
    """
    from models.als import FOLDED, AlsConfig, AlsModel
    from models.als_search import best_of, search
    from models.dataset import Dataset
    from models.index import FLAT_BELOW, build_index
    from models.neighbours import Neighbours

    config = job.config("als", AlsConfig)
    data = Dataset.load(job.input("examples"))
    videos = len(data.catalogue)
    try:
        trials = search(data.history, videos, config) if config.trials else []
    except EmptyData:  # a log too short to compare on has the settings that do well elsewhere
        trials = []
    config = best_of(trials).config if trials else config
    served = data.interactions.before(data.split.holdout_start)
    before_valid = data.interactions.before(data.split.valid_start)
    parts = {"": data.history, "before_valid": before_valid, "served": served}
    for name, log in parts.items():
        model = AlsModel.fit(log, videos, config)
        model.save(job.out / name / "model")
        Neighbours.fit(log, videos).save(job.out / name / "neighbours")
    if videos >= FLAT_BELOW:
        now = microseconds(job.end)
        some = some_viewers(data)
        asked = served.histories(some, np.full(len(some), now), FOLDED)
        build_index(model.factors, model.fold_in(asked)).save(job.out / "served" / "index")
    known = np.any(model.factors != 0, axis=1)
    return Outcome(
        {"interactions": float(len(served)), "videos_known": float(known.sum())},
        asdict(config),
        details={"trials": [asdict(trial) for trial in trials]},
    )


def two_tower(job: Job) -> Outcome:
    """Interactions before the ranker's window, thumbnails, profiles -> item vectors and both towers."""
    from components.training import viewer_places
    from components.visual_table import visual_of
    from models.dataset import Dataset
    from models.tower_export import export, save_state
    from models.two_tower import TwoTowerConfig, train

    config = job.config("two_tower", TwoTowerConfig)
    data = Dataset.load(job.input("examples"))
    start, about = champion_towers(job, data, config)
    with connect(job.settings) as stores:
        visual = visual_of(stores.lake, data.catalogue.ids)
        viewers = viewer_places(stores.lake, data.users)
    with progress("per cent") as told:
        trained = train(
            data.history,
            data.catalogue,
            config,
            visual=visual,
            viewers=viewers,
            warm_start=start,
            progress=lambda done: told(int(done * 100), 100),
        )
    export(trained, job.out / "model")
    save_state(trained, data.catalogue, job.out / "model")
    return Outcome({"loss": trained.losses[-1]}, asdict(config), details={"start": about})


def champion_towers(job: Job, data: "Dataset", config: "TwoTowerConfig") -> "tuple[TwoTower | None, str]":
    """The champion's towers to go on from, and what is so; None where there are none that fit."""
    from models.tower_export import resume
    from upnext.releases import Releases

    releases = Releases(job.settings)
    version = releases.version("champion")
    if version is None:
        return None, "afresh: there is no champion"
    folder = releases.resolve(version).path / "towers"
    try:
        return resume(folder, data.catalogue, config, data.split.history_end), f"champion {version}"
    except DataError as error:
        return None, f"afresh: {error}"


def ranker(job: Job) -> Outcome:
    """Examples with the retrievers' scores -> the multi-task ranker and the weights of its heads."""
    from components.training import Completer, train_ranker
    from components.weights import choose_weights
    from feature_repo.offline import aligned
    from feature_repo.specs import VIDEO
    from models.dataset import Dataset
    from models.rank_train import RankerConfig
    from models.scorer import Scorer

    config = job.config("ranker", RankerConfig)
    data = Dataset.load(job.input("examples"))
    with connect(job.settings) as stores:
        completer = Completer.of(job, data, stores.lake)
        start = moment(data.split.valid_start)
        videos = aligned(stores.lake, VIDEO.name, start, data.catalogue.ids)
    train, valid = (completer.part(job, part) for part in ("train", "valid"))
    with progress("ranker") as told:
        report, timing, champion = train_ranker(
            job, train, valid, completer.schema, config, told, before=moment(data.split.holdout_start)
        )
    weights, weighed = choose_weights(completer, Scorer.load(job.out / "model"), videos)
    weights.save(job.out / "weights.json")
    metrics = {
        f"valid.{head}.{name}": float(value)
        for head, each in report["valid"].items()
        for name, value in each.items()
        if value is not None and np.isfinite(value)
    }
    return Outcome(
        {
            "train_examples": float(len(train)),
            "valid_examples": float(len(valid)),
            **metrics,
        },
        {**asdict(config), "warm_start": champion},
        details={
            "notes": report["notes"],
            "weights": weighed,
            "samples_per_s": timing.rows / max(timing.seconds, 1e-9),
            "waiting_share": timing.waiting_s / max(timing.seconds, 1e-9),
        },
    )


def index(job: Job) -> Outcome:
    """Item vectors with the popularity of the interval's end -> the vector index, its recall measured."""
    from components.training import viewer_places
    from models.dataset import Dataset
    from models.index import RECALL_AT, ExactIndex, build_index, recall_against
    from models.popularity import Popularity
    from models.towers import Towers
    from models.viewer_inputs import context

    data = Dataset.load(job.input("examples"))
    now = microseconds(job.end)
    with connect(job.settings) as stores:
        popularity = Popularity.of(stores.lake.read("outcomes"), data.catalogue, now)
        viewers = viewer_places(stores.lake, data.users)
    dated = popularity.scores(), data.catalogue.uploaded_at, now
    towers = Towers.load(job.input("two_tower") / "model").with_popularity(*dated)
    some = some_viewers(data)
    histories = data.interactions.histories(some, np.full(len(some), now), int(towers.meta["length"]))
    queries = towers.encode(histories, context(now, viewers[some]))
    tuning, held_out = np.array_split(queries, 2) if len(queries) > 1 else (queries, queries)
    built = build_index(towers.items, tuning)
    built.save(job.out / "model")
    k = min(RECALL_AT, len(towers))
    recall = recall_against(ExactIndex.build(towers.items), built, held_out, k)
    return Outcome({"vectors": float(len(towers)), f"recall_at_{k}": recall})


def some_viewers(data: "Dataset") -> NDArray[np.int32]:
    """int32[k], those whose vectors an index is measured with."""
    return np.random.default_rng(0).permutation(len(data.users))[:ASKING].astype(np.int32)


def _versions(lake: Lake, *tables: str) -> dict[str, int]:
    return {table: lake.version(table) for table in tables}


def _next_hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
