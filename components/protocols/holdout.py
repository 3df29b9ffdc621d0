"""The whole funnel on the newest days: trained before a time, judged on what came after it.

Three questions, each of the same users with popularity beside: does it rank the whole catalogue well, does it
order well what was really shown, and are the ranker's heads right at the moment of each impression.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.evaluation import Holdout, score, slates
from components.protocols.prepared import Prepared
from components.protocols.report import Report
from components.recommending import recommend
from components.training import Completer
from feature_repo.request import CONTEXT
from models import metrics
from models.crosses import CROSS_NAMES
from models.dataset import Dataset, Examples
from models.metrics import Truth
from models.rank_data import RankData
from models.scorer import Scorer
from upnext.stores import connect

POLICIES = ("funnel", "popularity", "random", "retriever:als", "retriever:two_tower")
ORDERING = ("funnel", "popularity", "random")
PAGE, CANDIDATES = 10, 500
LABELS = {"long_view": "long views", "click": "clicks"}
NEW_USER, HEAVY_USER = 5, 50
"""Videos of the past below which a user is new, and from which heavy."""

Ranked = Mapping[str, NDArray[np.int32]]


def holdout(prepared: Prepared) -> Report:
    """All three questions on one sample of users."""
    data, report = prepared.data, Report("holdout", prepared.job.source)
    users = Holdout.of(data, prepared.sample, prepared.seed)
    report.notes.append(f"hold-out since {users.since.isoformat()}, {len(users.users)} users")
    pages = ranked(prepared, users, "final", PAGE)
    candidates = ranked(prepared, users, "retrieval", CANDIDATES)
    _whole_catalogue(report, prepared, users, pages, candidates)
    _slices(report, prepared, users, pages)
    if len(users.watched.keys):
        _shown(report, prepared, users, pages)
    _at_the_moment(report, prepared)
    return report


def ranked(prepared: Prepared, users: Holdout, stage: str, count: int) -> dict[str, NDArray[np.int32]]:
    """Catalogue rows by policy, int32[U, count], -1 where a place stayed empty."""
    asked = (prepared.bundle, users.users, users.since, POLICIES, prepared.file(stage))
    table = recommend(*asked, stage=stage, count=count)
    return slates(table, POLICIES, users.users, prepared.ids, count)


def _whole_catalogue(
    report: Report, prepared: Prepared, users: Holdout, pages: Ranked, candidates: Ranked
) -> None:
    data = prepared.data
    for head, name in LABELS.items():
        truth = users.truth(data, head)
        for measure in (metrics.ndcg, metrics.recall, metrics.average_precision):
            found = {policy: measure(rows, truth, PAGE) for policy, rows in pages.items()}
            report.add(f"{measure.__name__}@{PAGE}, {name}", found)
        found = {policy: metrics.recall(rows, truth, CANDIDATES) for policy, rows in candidates.items()}
        report.add(f"recall@{CANDIDATES} of the candidates, {name}", found)
    known = data.interactions.before(data.split.holdout_start)
    known = known.where(known.newest)
    engaged = np.bincount(known.video, minlength=len(data.catalogue))
    report.add(
        f"novelty@{PAGE}, bits",
        {policy: metrics.novelty(rows, engaged, known.n_users) for policy, rows in pages.items()},
    )
    for policy, rows in pages.items():
        report.facts[f"coverage@{PAGE} of {policy}"] = metrics.coverage(rows, len(data.catalogue))
        report.facts[f"Gini over creators@{PAGE} of {policy}"] = metrics.creator_gini(
            rows, data.catalogue.creator
        )


def _slices(report: Report, prepared: Prepared, users: Holdout, pages: Ranked) -> None:
    """NDCG@10 of long views by what was known of users, by region, and of new videos alone."""
    data, truth = prepared.data, users.wanted
    before = data.interactions.before(data.split.holdout_start)
    place = np.searchsorted(data.users, users.users)
    past = np.bincount(before.user, minlength=len(data.users))[place]
    groups = {
        "new users": past < NEW_USER,
        "light users": (past >= NEW_USER) & (past < HEAVY_USER),
        "heavy users": past >= HEAVY_USER,
        **_regions(prepared, users),
    }
    quality = {policy: metrics.ndcg(rows, truth, PAGE) for policy, rows in pages.items()}
    for name, members in groups.items():
        inside = {policy: np.where(members, values, np.nan) for policy, values in quality.items()}
        if not np.isnan(inside["popularity"]).all():
            report.add(f"ndcg@{PAGE}, {name}", inside)
    new = truth.among(np.bincount(before.video, minlength=len(data.catalogue)) == 0)
    if len(new.keys):
        report.add(
            f"recall@{PAGE}, new videos",
            {policy: metrics.recall(rows, new, PAGE) for policy, rows in pages.items()},
        )


def _regions(prepared: Prepared, users: Holdout, most: int = 5) -> dict[str, NDArray[np.bool_]]:
    """Members of the regions with most users, where regions are known."""
    with connect(prepared.job.settings) as stores:
        table = stores.lake.read("users", ["user_id", "region"])
    place = pc.index_in(pa.array(users.users), table["user_id"].combine_chunks())
    region = np.asarray(table["region"].combine_chunks().take(place).to_pylist(), object)
    names, counts = np.unique(region[region != np.array(None)], return_counts=True)
    return {f"region {name}": region == name for name in names[np.argsort(-counts)][:most]}


def _shown(report: Report, prepared: Prepared, users: Holdout, pages: Ranked) -> None:
    """Order of what was really shown, from what was known when the hold-out began."""
    pairs = users.shown(prepared.ids)
    most = int(np.bincount(users.watched.keys // users.watched.videos).max())
    asked = (prepared.bundle, users.users, users.since, ORDERING, prepared.file("replayed"))
    table = recommend(*asked, count=most, pairs=pairs)
    order = slates(table, ORDERING, users.users, prepared.ids, most)
    ids, judge = prepared.ids, prepared.judge
    first = {policy: score(users, pages[policy], rows, None, ids) for policy, rows in order.items()}
    report.add(
        "seconds of the first of what was shown",
        {policy: each.watch_time_per_slot_s for policy, each in first.items()},
    )
    report.add(
        f"ndcg@{PAGE} of what was shown, seconds as gain",
        {policy: metrics.ndcg(rows, users.watched, PAGE) for policy, rows in order.items()},
    )
    if judge is not None:
        asked_of = {policy: score(users, pages[policy], pages[policy], judge, ids) for policy in pages}
        report.add(
            "seconds per slot, asked of the simulator",
            {policy: each.watch_time_per_slot_s for policy, each in asked_of.items()},
        )
    sizes = (order["popularity"] >= 0).sum(axis=1)
    for head, name in LABELS.items():
        positive = _labelled(prepared.data, users, head)
        found = {policy: _auc_of_order(rows, positive) for policy, rows in order.items()}
        report.add(f"GAUC of what was shown, {name}", found, weights=sizes)


def _labelled(data: Dataset, users: Holdout, head: str) -> Truth:
    """Which of what was shown has a label of 1, met before or not."""
    rows = data.examples["holdout"]
    return users.positives(data, rows.shown & (rows.labels[head] == 1))


def _auc_of_order(rows: NDArray[np.int32], positive: Truth) -> NDArray[np.float64]:
    """AUC of each user's order, float64[U]; NaN where one class or nothing was shown."""
    user, place = np.nonzero(rows >= 0)
    values, _ = metrics.grouped_auc(positive.gains_of(rows)[user, place], -place, user)
    out = np.full(len(rows), np.nan)
    out[np.unique(user)] = values
    return out


def _at_the_moment(report: Report, prepared: Prepared) -> None:
    """The ranker's heads on each impression of the hold-out, with what was known at that moment."""
    data, steps = prepared.data, prepared.steps
    with connect(steps.settings) as stores:
        completer = Completer.of(steps, data, stores.lake)
        rows = completer.part(steps, "holdout")
        still = completer.complete(
            at_first_moment(data.examples["holdout"], completer.layouts[CONTEXT].names)
        )
    user, shown = data.examples["holdout"].user, rows.shown
    scorer = Scorer.load(steps.input("ranker") / "model")
    heads, heads_still = scorer.score_batch(rows), scorer.score_batch(still)
    popularity = rows.cross[:, CROSS_NAMES.index("popularity")]
    for head in ("click", "long_view", "like", "share", "not_interested"):
        label = rows.labels[head]
        kept = shown & ~np.isnan(label)
        if len(np.unique(label[kept])) < 2:
            report.notes.append(f"{head}: what was shown has one class only")
            continue
        report.facts[f"AUC of {head}"] = metrics.auc(label[kept], heads[head][kept])
        report.facts[f"ECE of {head}"] = metrics.ece(label[kept], heads[head][kept])
        if head in LABELS:
            sizes = np.unique(user[kept], return_counts=True)[1]
            for name, scores in (("", heads), (", at the first moment", heads_still)):
                guesses = {"funnel": scores[head], "popularity": np.nan_to_num(popularity)}
                found = {
                    policy: metrics.grouped_auc(label[kept], values[kept], user[kept])[0]
                    for policy, values in guesses.items()
                }
                report.add(f"GAUC of the {head} head{name}", found, weights=sizes)
    _watch_time(report, rows, heads["watch_s"], user, popularity)


def at_first_moment(rows: Examples, context: Sequence[str]) -> Examples:
    """Impressions as if each viewer had met all of theirs at the time of the first, each on its own surface.

    A ranking is of one moment. Across moments GAUC also compares a viewer with themselves, and that against
    the labels: the more of a few clicks are behind, the fewer are to come. A request has one context, so
    each surface has a request of its own, microseconds before the first.

    Parameters
    ----------
    context
        Names of the context's columns.
    """
    order = np.lexsort((rows.ts, rows.user))
    _, start, viewer = np.unique(rows.user[order], return_index=True, return_inverse=True)
    first = np.empty(len(rows), np.int64)
    first[order] = order[start][viewer]
    surface = [place for place, name in enumerate(context) if name.startswith("surface=")]
    moment = rows.context[first]
    moment[:, surface] = rows.context[:, surface]
    apart = rows.context[:, surface] @ np.arange(1, len(surface) + 1)
    ts = rows.ts[first] - apart.astype(np.int64)  # not after it: what came of it must not be known
    return replace(rows, ts=ts, user_features=rows.user_features[first], context=moment)


def _watch_time(
    report: Report,
    rows: RankData,
    expected: NDArray[np.float32],
    user: NDArray[np.int32],
    popularity: NDArray[np.float32],
) -> None:
    """Seconds watched of what was shown: error and order, beside one number for all and popularity."""
    seconds = rows.labels["watch_s"]
    kept = rows.shown & ~np.isnan(seconds)
    if not kept.any():
        report.notes.append("watch time: nobody knows how long anything shown was watched")
        return
    actual, code = seconds[kept].astype(np.float64), np.unique(user[kept], return_inverse=True)[1]
    counts = np.bincount(code)

    def error(guess: NDArray[np.floating] | float) -> NDArray[np.float64]:
        return np.asarray(np.bincount(code, np.abs(actual - guess)) / counts)

    guesses = {"funnel": error(expected[kept]), "the mean": error(float(actual.mean()))}
    report.add("MAE of watch time, s", {**guesses, "zero": error(0.0)}, "the mean", counts)
    report.facts["XAUC of watch time, funnel"] = metrics.xauc(actual, expected[kept])
    report.facts["XAUC of watch time, popularity"] = metrics.xauc(actual, np.nan_to_num(popularity[kept]))
    report.facts["mean watch time, s"] = float(actual.mean())
    report.facts["mean of the expected watch time, s"] = float(expected[kept].mean())
