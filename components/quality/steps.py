"""Steps ``validate``, before anything is trained, and ``drift``, after it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from components.pipeline import Job, Outcome
from components.quality.settings import DriftConfig, ValidateConfig
from components.runner import INTERVAL, REPORT, Report
from models.dataset import Examples
from upnext.errors import SuiteFailed
from upnext.ports import Lake
from upnext.stores import connect

DOCUMENTS = "documents"
"""Folder of a step's pages, below its output."""
WINDOW_FILE = "window.parquet"


def validate(job: Job) -> Outcome:
    """Rows that break a rule -> quarantine; events, examples, features held against their suites."""
    from components.quality.documents import write
    from components.quality.rows import sweep
    from components.quality.run import failures, run
    from components.quality.suites import CRITICAL

    config = job.config("validate", ValidateConfig)
    with connect(job.settings) as stores:
        moved = sweep(stores.lake, job.source, _first_day(job))
        share = _refused_share(job, stores.lake, moved)
        results = run(_suites(job, stores.lake, share, config))
    failed = failures(results)
    index = write(results, failed, job.out / DOCUMENTS, f"{job.end:%Y-%m-%d %H:%M} UTC")
    total = sum(len(result.results) for result in results.values())
    return Outcome(
        {
            "expectations": float(total),
            "warnings": float(len(failed)),
            "quarantined": float(moved.total()),
            "refused_share": share,
        },
        params=asdict(config),
        details={
            DOCUMENTS: str(index.absolute()),
            "warnings": [str(failure) for failure in failed],
            "quarantined": dict(moved),
        },
        artifacts=(DOCUMENTS,),
        refused=_unfit([failure for failure in failed if failure.severity == CRITICAL], index),
    )


def drift(job: Job) -> Outcome:
    """Features and predictions of the training window and the hold-out, and of the interval before."""
    from components.quality.drift import Window, compare, write_report

    config = job.config("drift", DriftConfig)
    trained, newest = _windows(job, config)
    newest.save(job.out / WINDOW_FILE)
    pairs = {"": (trained, newest)}
    earlier = _earlier(job, "drift", WINDOW_FILE)
    if earlier is not None:
        pairs["previous."] = Window.load(earlier), newest
    folder = job.out / DOCUMENTS
    folder.mkdir()
    metrics: dict[str, float] = {}
    for prefix, (before, now) in pairs.items():
        found = compare(before, now, config)
        write_report(before, now, found, config, folder / f"{prefix}index.html")
        metrics |= {f"{prefix}{name}": value for name, value in found.metrics(config.shown).items()}
    return Outcome(
        metrics,
        params=asdict(config),
        details={
            DOCUMENTS: str((folder / "index.html").absolute()),
            "previous": str(earlier.parent.parent.name) if earlier else None,
        },
        artifacts=(DOCUMENTS,),
    )


def _unfit(critical: Sequence[Any], index: Path) -> SuiteFailed | None:
    if not critical:
        return None
    more = f" (and {len(critical) - 1} more)" if critical[1:] else ""
    return SuiteFailed(
        f"{critical[0]}{more}. Nothing was trained; {index} shows all of it, and "
        "docs/operations.md says what to do when a suite fails"
    )


def _suites(job: Job, lake: Lake, refused_share: float, config: ValidateConfig) -> list[Any]:
    """Each suite with the frame that it is held against."""
    from components.examples import CONTEXT, load_layouts
    from components.quality import frames, suites
    from feature_repo.specs import USER, VIDEO
    from models.dataset import Dataset

    data, layouts = Dataset.load(job.input("examples")), load_layouts(job.input("examples"))
    blocks = {"user_features": USER.name, "video_features": VIDEO.name, "context": CONTEXT}
    names = {block: [field.name for field in layouts[name].fields] for block, name in blocks.items()}
    start = job.end - frames.WINDOW
    before = frames.events_frame(lake, start, start - frames.WINDOW)
    return [
        (suites.events_suite(before, start, job.end), frames.events_frame(lake, job.end, start)),
        (
            suites.examples_suite(data.split, len(data.users), len(data.catalogue)),
            frames.examples_frame(data),
        ),
        (suites.features_suite(config), frames.features_frame(lake, data, names, job.end)),
        (suites.tables_suite(config), frames.tables_frame(lake, data, job.end, refused_share)),
    ]


def _refused_share(job: Job, lake: Lake, moved: Counter[str]) -> float:
    """Share of events in quarantine: of those that ``ingest`` read, or of those in the lake, the larger."""
    report = Report.read(job.input("ingest"))
    reasons: Mapping[str, int] = report.details.get("quarantined", {}) if report else {}
    refused = sum(rows for reason, rows in reasons.items() if reason.startswith("events: "))
    read = refused + (report.metrics.get("events_read", 0.0) if report else 0.0)
    swept = moved.total()
    left = lake.scan("events").count_rows()
    return max(refused / max(read, 1.0), swept / max(swept + left, 1))


def _first_day(job: Job) -> date | None:
    """The oldest day that can have new events: the log refuses what is older than its retention."""
    earlier = _earlier(job, "validate", REPORT)
    if job.source != "log:" or earlier is None:
        return None
    end = datetime.strptime(earlier.parent.parent.name, INTERVAL)
    return (end - timedelta(days=job.settings.event_retention_days + 1)).date()


def _earlier(job: Job, step: str, file: str) -> Path | None:
    """A file of a step in the newest interval before this one."""
    runs, own = job.out.parent.parent, job.out.parent.name
    found = sorted(each for each in runs.glob(f"*Z/{step}/{file}") if each.parent.parent.name < own)
    return found[-1] if found else None


def _windows(job: Job, config: DriftConfig) -> tuple[Any, Any]:
    """What was shown in the ranker's window and in the hold-out, with what the ranker says of it."""
    import pandas as pd

    from components.quality.drift import Window
    from components.training import Completer
    from models.dataset import Dataset
    from models.rank_data import BLOCKS
    from models.scorer import Scorer

    scorer = Scorer.load(job.input("ranker") / "model")
    data = Dataset.load(job.input("examples"))
    rng = np.random.default_rng(config.seed)
    parts = {name: _drawn(data.examples[name], config.rows, rng) for name in ("train", "holdout")}
    with connect(job.settings) as stores:
        completer = Completer.of(job, data, stores.lake)
    names = [f"{block}.{name}" for block in BLOCKS for name in scorer.schema.block(block)]
    trained, newest = (
        Window(
            pd.DataFrame(np.concatenate([getattr(rows, block) for block in BLOCKS], axis=1), columns=names),
            pd.DataFrame(scorer.score_batch(rows)),
        )
        for rows in map(completer.complete, parts.values())
    )
    return trained, newest


def _drawn(part: Examples, rows: int, rng: np.random.Generator) -> Examples:
    """At most so many examples, in their order, without the sampled negatives: those only training has."""
    real = np.flatnonzero(~np.isnan(part.labels["like"]))
    kept = np.sort(rng.choice(real, rows, replace=False)) if len(real) > rows else real
    columns = {name: value[kept] for name, value in vars(part).items() if name != "labels"}
    return Examples(**columns, labels={head: label[kept] for head, label in part.labels.items()})
