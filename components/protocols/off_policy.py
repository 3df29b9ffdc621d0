"""Watch time of a new policy from slates that another one showed with known probabilities.

The policy that is judged gives every slot a draw from the first ``TOP`` videos of a list, each as likely: a
slate that never varies would meet the log's so rarely that nothing could be said. Lists are made from what
was known when the hold-out began; the slots are those that the log showed on the home surface after it. The
reward model of the doubly robust estimate is the ranker's watch head, asked at the same moment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.evaluation import Holdout, Judge, slates
from components.protocols.prepared import Prepared
from components.protocols.report import Figure, Report
from components.recommending import recommend
from models.columns import codes, flags, floats
from models.off_policy import Logged, doubly_robust, snips
from upnext.errors import EmptyData, TooLittleData
from upnext.stores import connect

POLICIES = ("funnel", "popularity", "random")
TOP = 50
SLOTS = 10
DRAWS = 20
"""Slates of each user that a simulator is asked about."""


@dataclass(frozen=True)
class Slots:
    """n logged slots: user int[n] codes, video int[n] catalogue rows, seconds, propensity float64[n]."""

    users: list[str]
    user: NDArray[np.int32]
    video: NDArray[np.int32]
    seconds: NDArray[np.float64]
    propensity: NDArray[np.float64]


def off_policy(prepared: Prepared) -> Report:
    """SNIPS and doubly robust estimates of each policy, and the truth where it can be asked for."""
    report = Report("off-policy", prepared.job.source)
    users = Holdout.of(prepared.data, prepared.sample, prepared.seed)
    slots = logged_slots(prepared, users)
    report.notes.append(f"{len(slots.user)} slots of {len(slots.users)} users")
    lists = _lists(prepared, users, slots)
    watch_s = _watch_head(prepared, users, slots, lists)
    for policy, rows in lists.items():
        logged = Logged.of(slots.user, slots.seconds, slots.propensity, chance(slots, rows))
        of_list = np.where(rows >= 0, watch_s(np.arange(len(rows))[:, None], rows), np.nan)
        expected = np.nanmean(of_list, axis=1)[slots.user]
        predicted = watch_s(slots.user, slots.video)
        try:
            found = {"SNIPS": snips(logged), "doubly robust": doubly_robust(logged, predicted, expected)}
        except TooLittleData as error:
            report.notes.append(f"{policy}: refused, {error}")
            found = {}
        for name, each in found.items():
            measure = f"watch time per slot, s, {name}"
            people = len(slots.users)
            report.figures.append(Figure(measure, policy, each.value, each.low, each.high, people))
            report.facts[f"effective slots of {policy}"] = each.effective_size
        if prepared.judge is not None:
            truth = asked(prepared.judge, users.since, slots, rows, prepared.ids, prepared.seed)
            report.facts[f"watch time per slot of {policy}, s, asked of the simulator"] = truth
    return report


def logged_slots(prepared: Prepared, users: Holdout) -> Slots:
    """What the hold-out's users were shown at home with a known probability, and how long they watched it."""
    columns = ["user_id", "video_id", "watch_ms", "watched", "propensity"]
    wanted = (
        (ds.field("timestamp") >= pa.scalar(users.since))
        & (ds.field("timestamp") < pa.scalar(prepared.job.end))
        & ds.field("propensity").is_valid()
        & (ds.field("surface") == "home")
        & ds.field("user_id").isin(pa.array(users.users))
    )
    with connect(prepared.job.settings) as stores:
        rows = stores.lake.scan("outcomes").to_table(columns=columns, filter=wanted)
    video = prepared.data.catalogue.rows(rows["video_id"])
    seconds = np.where(flags(rows["watched"]), floats(rows["watch_ms"]) / 1_000, 0.0)
    kept = (video >= 0) & ~np.isnan(seconds)
    if not kept.any():
        raise EmptyData(
            "no slot of the hold-out has a propensity: this log does not say how likely its policy was to "
            "show what it showed; the world's does (--data world:)"
        )
    names = sorted(set(rows["user_id"].filter(pa.array(kept)).to_pylist()))
    user = codes(rows["user_id"], names)
    return Slots(names, user[kept], video[kept], seconds[kept], floats(rows["propensity"])[kept])


def _lists(prepared: Prepared, users: Holdout, slots: Slots) -> dict[str, NDArray[np.int32]]:
    """Catalogue rows by policy, int32[U, TOP], -1 where a list is shorter."""
    asked_for = (prepared.bundle, slots.users, users.since, POLICIES, prepared.file("lists"))
    made = recommend(*asked_for, count=TOP)
    return slates(made, POLICIES, slots.users, prepared.ids, TOP)


def chance(slots: Slots, lists: NDArray[np.int32]) -> NDArray[np.float64]:
    """Probability that the new policy puts each logged video into its slot, float64[n]."""
    length = (lists >= 0).sum(axis=1)[slots.user]
    found = (lists[slots.user] == slots.video[:, None]).any(axis=1)
    return np.where(found, 1 / np.maximum(length, 1), 0.0)


def _watch_head(
    prepared: Prepared, users: Holdout, slots: Slots, lists: Mapping[str, NDArray[np.int32]]
) -> Callable[[NDArray[np.integer], NDArray[np.integer]], NDArray[np.float64]]:
    """From users' codes and catalogue rows, of any shape, to the seconds that the ranker expects.

    It knows the pairs that were logged or listed, and answers anything for others.
    """
    videos = len(prepared.data.catalogue)
    parts = [slots.user * np.int64(videos) + slots.video]
    for rows in lists.values():
        owner, place = np.nonzero(rows >= 0)
        parts.append(owner * np.int64(videos) + rows[owner, place])
    user, video = np.divmod(np.unique(np.concatenate(parts)), videos)
    pairs = pa.table({"user_id": pa.array(slots.users).take(user), "video_id": prepared.ids.take(video)})
    asked_for = (prepared.bundle, slots.users, users.since, ("funnel",), prepared.file("scored"))
    scored = recommend(*asked_for, count=videos, pairs=pairs, heads=True)
    row = prepared.data.catalogue.rows(scored["video_id"])
    key = codes(scored["user_id"], slots.users) * np.int64(videos) + row
    order = np.argsort(key)
    keys, seconds = key[order], np.asarray(scored["watch_s"], np.float64)[order]

    def look_up(user: NDArray[np.integer], row: NDArray[np.integer]) -> NDArray[np.float64]:
        place = np.searchsorted(keys, user * np.int64(videos) + row)
        return np.asarray(seconds[np.minimum(place, len(seconds) - 1)])

    return look_up


def asked(
    judge: Judge, at: datetime, slots: Slots, lists: NDArray[np.int32], ids: pa.Array, seed: int
) -> float:
    """Seconds per slot that the new policy earns in the simulator: slates drawn from the lists.

    Users count as often as they have slots in the log, so that it is the same mean that is estimated.
    """
    rng = np.random.default_rng(seed)
    names = np.asarray([*ids.to_pylist(), ""], object)
    total = np.zeros(len(lists))
    for _ in range(DRAWS):
        drawn = rng.permuted(lists, axis=1)[:, :SLOTS]
        watched = judge.judge(slots.users, names[drawn].tolist(), at)
        filled = np.maximum((drawn >= 0).sum(axis=1), 1)
        total += np.asarray(watched, np.float64).sum(axis=1) / filled / 1_000 / DRAWS
    return float(total[slots.user].mean())
