"""The gate: a candidate is released only when it has proved itself on the newest hold-out.

What is judged is what would serve: the bundle is put together, and ``upnext recommend`` runs its whole
funnel as of the hold-out's first moment. Beside it, on the same users, stand popularity, random and the
champion, bound anew as of that moment and searched exactly, as the candidate is: they differ in nothing but
what they have learned. A candidate is refused when its interval lies wholly below popularity's or the
champion's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evaluation import Holdout, Judge, Scores, score, slates
from components.pipeline import Job, Outcome
from components.recommending import recommend
from components.release import bind, rebind
from feature_repo.layout import layouts
from feature_repo.specs import USER, VIDEO
from models.bootstrap import Comparison, compare
from models.bundle import Manifest
from models.dataset import Dataset
from upnext.releases import Releases
from upnext.sources import open_source
from upnext.stores import connect

BASELINES = ("popularity", "random")
MEASURES = ("watch_time_per_slot_s", "ndcg_at_10")
COUNT = 10


def gate(job: Job) -> Outcome:
    """Judge the candidate; ``passed`` is 1 or 0 and ``details`` says why."""
    data = Dataset.load(job.input("examples"))
    holdout = Holdout.of(data)
    candidate = bind(job, job.out / "bundle")
    source = open_source(job.source, job.settings)
    judge = source if isinstance(source, Judge) else None
    ids = data.catalogue.table["video_id"].combine_chunks()

    ranked = _recommend(job, candidate, ("funnel", *BASELINES), holdout, ids, replay=judge is None)
    version, champion, about = champion_then(job, holdout.since)
    if champion is not None:
        judged = _recommend(job, champion, ("funnel", "popularity"), holdout, ids, replay=judge is None)
        ranked["champion"] = judged["funnel"]
    scores = {name: score(holdout, *pair, judge, ids) for name, pair in ranked.items()}
    rivals = [name for name in ("popularity", "champion") if name in scores]
    comparisons = {
        f"{measure} over {rival}": compare(
            getattr(scores["funnel"], measure), getattr(scores[rival], measure)
        )
        for rival in rivals
        for measure in MEASURES
        if _known(scores["funnel"], measure)
    }
    reasons = refusals(comparisons)
    return Outcome(
        metrics={
            "passed": float(not reasons),
            "users": len(holdout.users),
            **{
                f"{name}.{key}": value for name, each in scores.items() for key, value in _means(each).items()
            },
            **{
                f"lift.{name.replace(' ', '_')}.{end}": value
                for name, each in comparisons.items()
                for end, value in zip(("low", "mean", "high"), _lift(each), strict=True)
            },
        },
        params={"champion": version, "holdout_since": holdout.since.isoformat()},
        details={
            "reasons": reasons,
            "champion": about,
            "watch_time": "asked of the simulator" if judge else "replayed on what was shown",
            "policies": {name: _means(each) for name, each in scores.items()},
            "comparisons": {name: asdict(each) for name, each in comparisons.items()},
            "slices": _slices(data, holdout, scores),
        },
    )


def refusals(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Why a candidate must not be released; empty when nothing speaks against it."""
    return [
        f"{name}: {each.mean:.4g} against {each.baseline:.4g}, "
        f"difference between {each.difference_interval[0]:.3g} and {each.difference_interval[1]:.3g}"
        for name, each in comparisons.items()
        if each.difference_interval[1] < 0
    ]


def champion_then(job: Job, since: datetime) -> tuple[str, Path | None, str]:
    """The champion's version, a bundle of it as of the hold-out's start, and what there is to say of it.

    A champion of a late interval would know the hold-out by its popularity and features; that of an early
    one would be the worse for its age, which any candidate cures. So each is bound anew. What cannot be bound
    anew is what it has learned: from the hold-out itself, or of features that lie otherwise today. Such a
    champion is no rival: ``none``, None and why.
    """
    releases = Releases(job.settings)
    version = releases.version("champion")
    if version is None:
        return "none", None, "there is none"
    folder = releases.resolve(version).path
    manifest = Manifest.read(folder)
    changed = [view for view in (USER.name, VIDEO.name) if not _laid_out_as_now(manifest, view)]
    if manifest.learned_until > since:
        why = f"it has learned until {manifest.learned_until.isoformat()}, from days that are judged on"
    elif changed:
        why = f"it reads {' and '.join(changed)} in another layout"
    else:
        with connect(job.settings) as stores:
            return version, rebind(stores.lake, folder, since, job.out / "champion"), f"version {version}"
    return "none", None, f"version {version} is left out: {why}"


def _laid_out_as_now(manifest: Manifest, view: str) -> bool:
    return manifest.layouts[view].hash == layouts()[view].hash


def _recommend(
    job: Job, release: Path | str, policies: Sequence[str], holdout: Holdout, ids: pa.Array, replay: bool
) -> dict[str, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Catalogue rows by policy: int32[U, 10] over the whole catalogue, int32[U, 1] of what was shown."""
    asked = (release, holdout.users, holdout.since, policies)
    ranked = recommend(*asked, job.out / "ranked.parquet", count=COUNT)
    if replay and len(holdout.watched.keys):
        replayed = recommend(*asked, job.out / "replayed.parquet", count=COUNT, pairs=holdout.shown(ids))
    else:
        replayed = ranked.slice(0, 0)

    pages = slates(ranked, policies, holdout.users, ids, COUNT)
    first = slates(replayed, policies, holdout.users, ids, 1)
    return {policy: (pages[policy], first[policy]) for policy in policies}


def _means(scores: Scores) -> dict[str, float]:
    """Mean over the users that have the figure; a figure that nobody has is left out."""
    return {
        name: float(np.nanmean(values)) for name, values in vars(scores).items() if not np.isnan(values).all()
    }


def _known(scores: Scores, measure: str) -> bool:
    return not np.isnan(getattr(scores, measure)).all()


def _lift(each: Comparison) -> tuple[float, float, float]:
    return each.lift_interval[0], each.lift, each.lift_interval[1]


def _slices(data: Dataset, holdout: Holdout, scores: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """NDCG@10 by how much was known of a user when the hold-out began."""
    past = data.interactions.before(data.split.holdout_start)
    number = {user: place for place, user in enumerate(data.users)}
    known = np.bincount(past.user, minlength=len(data.users))[[number[user] for user in holdout.users]]
    groups = {"new users (< 5 videos)": known < 5, "light (5 to 50)": (known >= 5) & (known < 50)}
    groups["heavy (50 and more)"] = known >= 50
    out: dict[str, dict[str, float]] = {}
    for name, members in groups.items():
        found = members & ~np.isnan(scores["funnel"].ndcg_at_10)
        if found.any():
            out[name] = {policy: float(each.ndcg_at_10[found].mean()) for policy, each in scores.items()}
            out[name]["users"] = float(found.sum())
    return out
