"""What each retriever finds of what users went on to watch, and what none of the others finds."""

import numpy as np
from numpy.typing import NDArray

from components.evaluation import Holdout, slates
from components.protocols.prepared import Prepared
from components.protocols.report import Report
from components.recommending import recommend
from models import metrics

RETRIEVERS = ("als", "two_tower", "because_you_watched", "creators", "topics", "trending", "new")
"""All but search: nobody searches in a hold-out."""
EACH, POOL = 400, 1_000
"""Candidates of one retriever, and of all together: what serving takes."""
ALL = "all together"


def retrievers(prepared: Prepared) -> Report:
    """Recall@400 of each retriever alone, of the pool of 1,000, and the part that only one of them finds."""
    report = Report("retrievers", prepared.job.source)
    users = Holdout.of(prepared.data, prepared.sample, prepared.seed)
    truth = users.wanted
    alone = [f"retriever:{name}" for name in RETRIEVERS]
    ranked = _rows(prepared, users, alone, "alone", EACH)
    pool = _rows(prepared, users, ["funnel", "popularity"], "pool", POOL)
    each = {name: metrics.recall(ranked[f"retriever:{name}"], truth, EACH) for name in RETRIEVERS}
    report.add(f"recall@{EACH}", {**each, "popularity": metrics.recall(pool["popularity"], truth, EACH)})
    report.add(
        f"recall@{POOL}",
        {ALL: metrics.recall(pool["funnel"], truth, POOL)}
        | {"popularity": metrics.recall(pool["popularity"], truth, POOL)},
    )
    wanted = truth.counts().astype(np.float64)
    only = found_by_one([ranked[policy] for policy in alone], truth)
    for place, name in enumerate(RETRIEVERS):
        share = np.divide(only[place], wanted, out=np.full(len(wanted), np.nan), where=wanted > 0)
        report.add(f"recall that only this one adds, {EACH} of each", {name: share})
    return report


def _rows(
    prepared: Prepared, users: Holdout, policies: list[str], name: str, count: int
) -> dict[str, NDArray[np.int32]]:
    asked = (prepared.bundle, users.users, users.since, policies, prepared.file(name))
    table = recommend(*asked, stage="retrieval", count=count)
    return slates(table, policies, users.users, prepared.ids, count)


def found_by_one(ranked: list[NDArray[np.int32]], truth: metrics.Truth) -> NDArray[np.float64]:
    """Wanted videos that one retriever alone finds: float64[R, U], counts by retriever and user."""
    found = np.zeros((len(ranked), len(truth.keys)), np.bool_)
    for place, rows in enumerate(ranked):
        user, column = np.nonzero(rows >= 0)
        found[place] = np.isin(truth.keys, user * truth.videos + rows[user, column])
    only = found & (found.sum(axis=0) == 1)
    user = truth.keys // truth.videos
    return np.stack([np.bincount(user, line, truth.users) for line in only])
