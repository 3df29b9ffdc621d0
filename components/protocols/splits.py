"""Splits of the literature for data without impressions, such as MovieLens; the whole catalogue is ranked.

Leave-one-out (He et al., WWW 2017, here without sampled negatives): each user's last liked video is the
truth, all else is learned from. It looks into other users' future, and says how well a sequence is continued.

Strong generalisation (Liang et al., WWW 2018): a tenth of the users is held out of training; four fifths of
what each of them liked is folded in, and the rest is the truth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.protocols.prepared import Prepared
from components.protocols.ranking import Score, popularity_of, rank
from components.protocols.report import Report
from models import metrics
from models.als import AlsConfig, AlsModel
from models.dataset import Interactions
from models.history import Histories
from models.metrics import Truth
from models.tower_export import export
from models.towers import Towers
from models.two_tower import TwoTowerConfig, train
from upnext.errors import EmptyData

Measure = Callable[[NDArray[np.integer], Truth, int], NDArray[np.float64]]

LEAST_LIKED = 5
"""Videos that a user must have liked to be judged."""
HELD_USERS, FOLDED_IN = 0.1, 0.8
LENGTH = 200
"""Videos of a history that ALS folds in."""


@dataclass(frozen=True)
class Split:
    """Who is judged on what.

    learned: what models learn from; shown: what of the judged users they may look at when ranking; hidden:
    the truth, one row for each video. users: int64[U], the judged ones, ascending.
    """

    learned: Interactions
    shown: Interactions
    hidden: Interactions
    users: NDArray[np.int64]

    def truth(self, videos: int) -> Truth:
        place = np.searchsorted(self.users, self.hidden.user)
        return Truth.of(place, self.hidden.video, np.ones(len(place)), len(self.users), videos)

    def histories(self, length: int) -> Histories:
        after = np.full(len(self.users), int(self.shown.ts.max()) + 1)
        return self.shown.histories(self.users.astype(np.int32), after, length)


def leave_one_out(prepared: Prepared) -> Report:
    """HR@10 and NDCG@10 of each user's last liked video."""
    split = last_of_each(prepared.data.interactions, prepared.sample, prepared.seed)
    report = Report("leave-one-out", prepared.job.source)
    measures = {"HR@10": (metrics.hit_rate, 10), "ndcg@10": (metrics.ndcg, 10)}
    return _judged(report, prepared, split, measures)


def strong_generalisation(prepared: Prepared) -> Report:
    """NDCG@100 and recall@20 and @50 of users whom training has not seen."""
    split = held_users(prepared.data.interactions, prepared.sample, prepared.seed)
    report = Report("strong-generalisation", prepared.job.source)
    measures = {
        "ndcg@100": (metrics.ndcg, 100),
        "recall@20": (metrics.recall, 20),
        "recall@50": (metrics.recall, 50),
    }
    return _judged(report, prepared, split, measures)


def last_of_each(log: Interactions, sample: int, seed: int) -> Split:
    """Hide the last liked video of each user with enough of them, with every row about it."""
    users = _sampled(_judgeable(log), sample, seed)
    liked = np.flatnonzero(log.newest & (log.strength > 0) & np.isin(log.user, users))
    last = liked[np.searchsorted(log.user[liked], users, side="right") - 1]
    hide = _pairs(log, users, log.video[last])
    hidden = np.zeros(len(log), np.bool_)
    hidden[last] = True
    rest = log.where(~hide)
    return Split(rest, rest, log.where(hidden), users)


def held_users(log: Interactions, sample: int, seed: int) -> Split:
    """Hide a tenth of the users from training, and a fifth of what at most ``sample`` of them liked."""
    judgeable, rng = _judgeable(log), np.random.default_rng(seed)
    held = np.sort(rng.choice(judgeable, max(1, round(HELD_USERS * len(judgeable))), replace=False))
    users = _sampled(held, sample, seed)
    liked = np.flatnonzero(log.newest & (log.strength > 0) & np.isin(log.user, users))
    order = liked[np.lexsort((rng.random(len(liked)), log.user[liked]))]
    first = np.searchsorted(log.user[order], users)
    count = np.bincount(np.searchsorted(users, log.user[order]), minlength=len(users))
    nth = np.arange(len(order)) - np.repeat(first, count)
    truth = order[nth >= np.repeat(np.ceil(FOLDED_IN * count), count)]
    hidden = np.zeros(len(log), np.bool_)
    hidden[truth] = True
    hide = _pairs(log, log.user[truth], log.video[truth])
    learned, judged = ~np.isin(log.user, held), np.isin(log.user, users)
    return Split(log.where(learned), log.where(judged & ~hide), log.where(hidden), users)


def _judgeable(log: Interactions) -> NDArray[np.int64]:
    liked = np.bincount(log.user[log.newest & (log.strength > 0)], minlength=log.n_users)
    users = np.flatnonzero(liked >= LEAST_LIKED)
    if not len(users):
        raise EmptyData(f"no user liked {LEAST_LIKED} videos: there is nobody to judge on")
    return users


def _sampled(users: NDArray[np.int64], sample: int, seed: int) -> NDArray[np.int64]:
    """At most ``sample`` of the users, ascending as they are."""
    if len(users) <= sample:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, sample, replace=False))


def _pairs(log: Interactions, user: NDArray[np.integer], video: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Rows of the log that are about one of these pairs, bool[m]."""
    videos = int(log.video.max()) + 1
    return np.isin(log.user.astype(np.int64) * videos + log.video, user.astype(np.int64) * videos + video)


def _judged(
    report: Report, prepared: Prepared, split: Split, measures: Mapping[str, tuple[Measure, int]]
) -> Report:
    videos = len(prepared.data.catalogue)
    als = AlsModel.fit(split.learned, videos, prepared.job.config("als", AlsConfig))
    towers = _towers(prepared, split)
    folded, encoded = als.fold_in(split.histories(LENGTH)), towers.encode(split.histories(LENGTH))
    popular = popularity_of(split.learned, videos)
    scores: dict[str, Score] = {
        "als": lambda places: folded[places] @ als.factors.T,
        "two_tower": lambda places: encoded[places] @ towers.items.T,
        "popularity": lambda places: np.broadcast_to(popular, (len(places), videos)),
    }
    truth, most = split.truth(videos), max(k for _, k in measures.values())
    ranked = {name: rank(score, split.users, split.shown, most, videos) for name, score in scores.items()}
    for name, (measure, k) in measures.items():
        report.add(name, {policy: measure(rows, truth, k) for policy, rows in ranked.items()})
    report.notes.append(f"{len(split.users)} users judged, {videos} videos ranked")
    return report


def _towers(prepared: Prepared, split: Split) -> Towers:
    config = prepared.job.config("two_tower", TwoTowerConfig)
    return export(train(split.learned, prepared.data.catalogue, config), prepared.job.out / "towers")
