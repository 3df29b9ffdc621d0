"""Judging recommendations on a hold-out: what users went on to want, and how long they watched.

Ranking quality is measured over the whole catalogue against what a user watched for more than half in
the hold-out and had not seen before it. Watch time is asked of the simulator where the data comes from
one; a log is replayed: among the videos that a user was really shown, how long was the one watched that
the policy puts first. Every slot that counts has an outcome that was observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.bootstrap import compare
from models.dataset import Dataset
from models.metrics import Truth, average_precision, ndcg, recall, watch_time_per_slot
from upnext.errors import EmptyData
from upnext.listings import read_columns
from upnext.times import moment

Floats = NDArray[np.float64]


@runtime_checkable
class Judge(Protocol):
    """A source that knows how long a viewer would watch what it was not shown."""

    def judge(
        self, user_ids: Sequence[str], slates: Sequence[Sequence[str]], at: datetime
    ) -> NDArray[np.floating]:
        """Milliseconds watched, float[B, K], of slates of K video ids, "" for an empty place.

        The same viewer and video get the same luck whatever the policy."""
        ...


@dataclass(frozen=True)
class Holdout:
    """What is known of the hold-out's users.

    users: ids, U of them, drawn at random; wanted: gain 1 for each video newly watched for more than half;
    watched: seconds of each video shown, for users who were shown two or more.
    """

    users: list[str]
    wanted: Truth
    watched: Truth
    since: datetime

    @classmethod
    def of(cls, data: Dataset, sample: int = 1_500, seed: int = 0) -> "Holdout":
        """Of users with something to find or to compare, at most ``sample`` of them."""
        rows = data.examples["holdout"]
        videos = len(data.catalogue.ids)
        key = rows.user.astype(np.int64) * videos + rows.video
        wanted = newly(data, "long_view")
        seconds = np.where(rows.shown, rows.labels["watch_s"], np.nan)
        shown = np.unique(key[~np.isnan(seconds)]) // videos
        compared = np.flatnonzero(np.bincount(shown, minlength=len(data.users)) > 1)
        users = np.union1d(rows.user[wanted], compared)
        if len(users) > sample:
            users = np.sort(np.random.default_rng(seed).choice(users, sample, replace=False))
        place = np.full(len(data.users), -1)
        place[users] = np.arange(len(users))
        kept = place[rows.user] >= 0
        truth = place[rows.user[kept]], rows.video[kept]
        replayed = np.where(np.isin(rows.user, compared), seconds, np.nan)[kept]
        return cls(
            users=[data.users[user] for user in users],
            wanted=Truth.of(*truth, wanted[kept], len(users), videos),
            watched=Truth.of(*truth, np.where(np.isnan(replayed), 0, replayed + _SHOWN), len(users), videos),
            since=moment(data.split.holdout_start),
        )

    def shown(self, ids: pa.Array) -> pa.Table:
        """Pairs user_id, video_id that a replay has to order; ids: of the catalogue, in row order."""
        user, video = np.divmod(self.watched.keys, self.watched.videos)
        return pa.table({"user_id": pa.array(self.users).take(user), "video_id": ids.take(video)})

    def truth(self, data: Dataset, head: str) -> Truth:
        """Gain 1 for each video newly met of which a head's label is 1, such as ``click``."""
        return self.positives(data, newly(data, head))

    def positives(self, data: Dataset, positive: NDArray[np.bool_]) -> Truth:
        """Gain 1 for the video of each of the hold-out's examples that is positive, bool[n]."""
        rows = data.examples["holdout"]
        place = np.full(len(data.users), -1)
        place[np.searchsorted(data.users, self.users)] = np.arange(len(self.users))
        kept = positive & (place[rows.user] >= 0)
        user, video = place[rows.user[kept]], rows.video[kept]
        return Truth.of(user, video, np.ones(len(user)), len(self.users), len(data.catalogue))


def newly(data: Dataset, head: str) -> NDArray[np.bool_]:
    """Which of the hold-out's examples have a label of 1 for a video that its user had not met before."""
    rows, videos = data.examples["holdout"], len(data.catalogue)
    known = data.interactions.before(data.split.holdout_start)
    seen = np.unique(known.user.astype(np.int64) * videos + known.video)
    key = rows.user.astype(np.int64) * videos + rows.video
    return np.asarray((rows.labels[head] == 1) & ~np.isin(key, seen))


_SHOWN = 1e-6
"""Seconds added to each video shown, so that one shown and not watched is told from one not shown."""


@dataclass(frozen=True)
class Scores:
    """Figures of one policy, one per user; NaN where a user has none."""

    ndcg_at_10: Floats
    recall_at_10: Floats
    watch_time_per_slot_s: Floats


def score(
    holdout: Holdout,
    ranked: NDArray[np.int32],
    replayed: NDArray[np.int32],
    judge: Judge | None,
    ids: pa.Array,
) -> Scores:
    """Score catalogue rows int32[U, K] ranked over the whole catalogue, and the shown ones replayed."""
    if judge is not None:
        names = np.asarray([*ids.to_pylist(), ""], object)
        watched = judge.judge(holdout.users, names[ranked].tolist(), holdout.since)
        seconds = np.asarray(watched, np.float64) / 1_000
        filled = ranked >= 0
        per_slot = np.full(len(ranked), np.nan)
        np.divide((seconds * filled).sum(axis=1), filled.sum(axis=1), out=per_slot, where=filled.any(axis=1))
    else:
        per_slot = watch_time_per_slot(replayed, holdout.watched, 1)
    return Scores(ndcg(ranked, holdout.wanted, 10), recall(ranked, holdout.wanted, 10), per_slot)


def slates(
    table: pa.Table, policies: Sequence[str], users: Sequence[str], ids: pa.Array, count: int
) -> dict[str, NDArray[np.int32]]:
    """Catalogue rows by policy, int32[U, count], -1 where a place stayed empty.

    table: as :func:`components.recommending.recommend` gives it; ids: of the catalogue, in row order.
    """
    people = pa.array(users, pa.string())
    return {
        policy: place_slates(table.filter(pc.equal(table["policy"], policy)), people, ids, count)
        for policy in policies
    }


def place_slates(recommendations: pa.Table, users: pa.Array, ids: pa.Array, count: int) -> NDArray[np.int32]:
    """Codes of the videos recommended, int32[U, count]; -1 where a place stayed empty.

    recommendations: columns user_id, position, video_id; ids that are not listed are left out.
    """
    user = pc.fill_null(pc.index_in(recommendations["user_id"], users), -1).to_numpy()
    video = pc.fill_null(pc.index_in(recommendations["video_id"], ids), -1).to_numpy()
    position = recommendations["position"].to_numpy()
    out = np.full((len(users), count), -1, np.int32)
    kept = (position < count) & (user >= 0)
    out[user[kept], position[kept]] = video[kept]
    return out


def score_files(recommendations: Path, truth: Path, count: int) -> dict[str, float]:
    """Figures of a file of recommendations against a file of what users wanted.

    recommendations: columns user_id, position, video_id; truth: user_id, video_id and, optionally, gain.
    Users are those of the truth; one without recommendations counts as zero.
    """
    asked = read_columns(recommendations, ("user_id", "position", "video_id"))
    wanted = read_columns(truth, ("user_id", "video_id"))
    if not len(wanted):
        raise EmptyData(f"{truth} holds no row: there is nothing to score against")
    users = wanted["user_id"].unique()
    ids = pa.chunked_array([*asked["video_id"].chunks, *wanted["video_id"].chunks]).unique()
    gain = wanted["gain"].to_numpy() if "gain" in wanted.column_names else np.ones(len(wanted))
    code = pc.index_in(wanted["user_id"], users).to_numpy(), pc.index_in(wanted["video_id"], ids).to_numpy()
    known = Truth.of(*code, gain, len(users), len(ids))
    ranked = place_slates(asked.filter(pc.is_in(asked["user_id"], users)), users, ids, count)
    figures = {
        f"ndcg_at_{count}": ndcg(ranked, known, count),
        f"recall_at_{count}": recall(ranked, known, count),
        f"map_at_{count}": average_precision(ranked, known, count),
    }
    out: dict[str, float] = {}
    for name, values in figures.items():
        zero = np.zeros_like(values)
        each = compare(values, zero)
        out |= {
            name: each.mean,
            f"{name}.low": each.difference_interval[0],
            f"{name}.high": each.difference_interval[1],
        }
    return {
        **out,
        "videos_recommended": float(len(np.unique(ranked[ranked >= 0]))),
        "users": float(len(users)),
    }
