"""Videos held out of training altogether: can their content alone bring them to those who will watch them?

A tenth of the videos that anyone engaged with is left out of everything that is learned from: they keep their
title, tags, category, creator and duration. The towers' vector of such a video comes from that content.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from components.protocols.prepared import Prepared
from components.protocols.ranking import Score, popularity_of, rank
from components.protocols.report import Report
from components.steps import step_config
from models import metrics
from models.dataset import Interactions
from models.history import Histories
from models.metrics import Truth
from models.tower_export import export
from models.two_tower import TwoTowerConfig, train

SHARE = 0.1
"""Of the videos that are held out."""
WHOLE, AMONG = 500, 50
"""Places that count in the whole catalogue, and among the held-out videos alone."""


def cold_start(prepared: Prepared) -> Report:
    """Recall of held-out videos by the towers, by the popularity of their category, by chance."""
    data, report = prepared.data, Report("cold-start", prepared.job.source)
    rng = np.random.default_rng(prepared.seed)
    videos, log = len(data.catalogue), data.interactions
    held = np.zeros(videos, np.bool_)
    met = np.unique(log.video)
    held[rng.choice(met, max(1, round(SHARE * len(met))), replace=False)] = True
    warm = log.where(~held[log.video])
    wanted = log.where(held[log.video] & log.newest & (log.strength > 0))
    users = np.intersect1d(wanted.user, warm.user).astype(np.int64)
    if len(users) > prepared.sample:
        users = np.sort(rng.choice(users, prepared.sample, replace=False))
    kept = np.isin(wanted.user, users)
    place = np.searchsorted(users, wanted.user[kept])
    truth = Truth.of(place, wanted.video[kept], np.ones(len(place)), len(users), videos)
    report.notes.append(f"{held.sum()} of {videos} videos held out, {len(users)} users")

    scores = _scores(prepared, warm, users)
    within = {name: _only(score, held) for name, score in scores.items()}
    whole = {name: rank(score, users, warm, WHOLE, videos) for name, score in scores.items()}
    among = {name: rank(score, users, warm, AMONG, videos) for name, score in within.items()}
    report.add(f"recall@{WHOLE}, whole catalogue", _recall(whole, truth, WHOLE), "random")
    report.add(f"recall@{AMONG}, among the held-out videos", _recall(among, truth, AMONG), "random")
    return report


def _scores(prepared: Prepared, warm: Interactions, users: NDArray[np.int64]) -> dict[str, Score]:
    data, videos = prepared.data, len(prepared.data.catalogue)
    config = step_config(prepared.job, "two_tower", TwoTowerConfig)
    towers = export(train(warm, data.catalogue, config), prepared.job.out / "towers")
    histories = _histories(warm, users, config.length)
    viewers = towers.encode(histories)
    popular = popularity_of(warm, videos)
    category = data.catalogue.category
    codes = len(data.catalogue.categories) + 1
    by_category = np.bincount(category + 1, popular, codes) / np.maximum(
        np.bincount(category + 1, minlength=codes), 1
    )
    liked = np.zeros((len(users), codes))
    user, entry = np.nonzero(histories.mask & (histories.strength > 0))
    np.add.at(liked, (user, category[histories.rows[user, entry]] + 1), 1.0)

    def by_chance(places: NDArray[np.int64]) -> NDArray[np.floating]:
        return np.random.default_rng(int(places[0])).random((len(places), videos))

    return {
        "two_tower": lambda places: viewers[places] @ towers.items.T,
        "two_tower, cosine alone": lambda places: viewers[places, :-1] @ towers.items[:, :-1].T,
        "category": lambda places: liked[places][:, category + 1] + 1e-6 * by_category[category + 1],
        "popularity": lambda places: np.broadcast_to(popular, (len(places), videos)),
        "random": by_chance,
    }


def _histories(warm: Interactions, users: NDArray[np.int64], length: int) -> Histories:
    after = np.full(len(users), int(warm.ts.max()) + 1)
    return warm.histories(users.astype(np.int32), after, length)


def _only(score: Score, held: NDArray[np.bool_]) -> Score:
    return lambda places: np.where(held, score(places), -np.inf)


def _recall(ranked: Mapping[str, NDArray[np.int32]], truth: Truth, k: int) -> dict[str, NDArray[np.float64]]:
    return {name: metrics.recall(rows, truth, k) for name, rows in ranked.items()}
