"""``upnext simulate``: :mod:`serving.closed_loop` over several processes, and its figures."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.bootstrap import Comparison, compare, paired_p_value
from models.bundle import Bundle
from models.columns import floats, micros
from models.history import watch_fraction
from serving.bulk import Bulk
from serving.closed_loop import Arm, Elsewhere, Stage
from serving.funnel import RETRIEVERS
from serving.policies import PARTS, Policy
from upnext.errors import ConfigError
from upnext.releases import Releases
from upnext.settings import Settings
from upnext.stores import connect
from upnext.times import DAY_US
from upnext.world.config import START, WorldConfig, parse_options, to_us
from upnext.world.visits import Visits, members
from upnext.world.world import World

SILENT = ("search",)
"""Retrievers without a part here: nobody searches in the loop."""
ALL = (
    "popularity",
    "random",
    "funnel",
    *(f"retriever:{name}" for name in RETRIEVERS if name not in SILENT),
    *(f"without:{name}" for name in PARTS if name not in SILENT),
)
BEFORE = timedelta(days=10)
"""How far back others' engagement is read for popularity."""
WEIGHTS = {"like": 1.0, "share": 1.0}
"""What an event counts for popularity; a watch counts its watch fraction."""


@dataclass(frozen=True)
class Plan:
    """One simulation: which release, before how many viewers, how long."""

    folder: Path
    world: WorldConfig
    viewers: int
    days: int
    seed: int

    @classmethod
    def of(cls, settings: Settings, release: str, viewers: int, days: int, seed: int) -> "Plan":
        """ConfigError where the release was not trained on a world."""
        folder = Releases(settings).resolve(release).path
        bundle = Bundle.load(folder, verify=False)
        kind, _, options = str(bundle.manifest.meta.get("source", "")).partition(":")
        if kind != "world":
            raise ConfigError(
                f"release {release} was trained on {kind or 'an unknown source'}: only a world can answer "
                "what would have been watched; run `upnext cycle --data world:` first"
            )
        lasts = (bundle.manifest.as_of - START) / timedelta(days=1) + days
        config = parse_options(options)
        config = replace(config, days=max(config.days, int(np.ceil(lasts))))
        return cls(folder, config, viewers, days, seed)


@dataclass(frozen=True)
class Course:
    """What came of one policy; arrays as in :class:`serving.closed_loop.Arm`."""

    seconds: NDArray[np.float64]
    sessions: NDArray[np.int64]
    shown: int
    new: int


def simulate(settings: Settings, plan: Plan, policies: Sequence[str], jobs: int) -> dict[str, Course]:
    """Run policies side by side in ``jobs`` processes; the same plan gives the same courses."""
    for name in policies:
        Policy.parse(name)
    groups = [list(policies[first::jobs]) for first in range(min(jobs, len(policies)))]
    if len(groups) == 1:
        return run(settings, plan, groups[0])
    with ProcessPoolExecutor(len(groups), mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(run, [settings] * len(groups), [plan] * len(groups), groups))
    found = {name: course for part in parts for name, course in part.items()}
    return {name: found[name] for name in policies}


def run(settings: Settings, plan: Plan, policies: Sequence[str]) -> dict[str, Course]:
    """Some of the policies, in this process."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        stage, start_us = set_up(settings, plan)
        arms = [Arm.of(name, stage, start_us, plan.days) for name in policies]
        for funnel, visits in stage.funnels():
            for arm in arms:
                arm.serve(funnel, visits)
    return {arm.policy.name: Course(arm.seconds, arm.sessions, arm.shown, arm.new) for arm in arms}


def set_up(settings: Settings, plan: Plan) -> tuple[Stage, int]:
    """The world, the panel, who comes when, and what was known when the loop begins; also that time, µs."""
    bundle, world = Bundle.load(plan.folder, verify=False), World(plan.world)
    at = bundle.manifest.as_of
    start_us, end_us = to_us(at), to_us(at) + plan.days * DAY_US
    rng = np.random.default_rng(plan.seed)
    people = members(plan.world, end_us)
    rows = np.sort(rng.choice(people, min(plan.viewers, people), replace=False))
    ids = [f"u{row:08d}" for row in rows]
    first = (start_us - to_us(START)) // DAY_US
    days = [world.visits(day) for day in range(first, first + plan.days + 1)]
    viewer, start = (np.concatenate([getattr(day, name) for day in days]) for name in ("viewer", "start_us"))
    mine = np.isin(viewer, rows) & (start >= start_us) & (start < end_us)
    with connect(settings) as stores:
        known = Bulk.of(bundle, stores.lake, at).viewers(ids)
        before = pc.field("user_id").isin(pa.array(ids)) & (pc.field("timestamp") < pa.scalar(at))
        events = stores.lake.scan("events").to_table(filter=before)
    stage = Stage(
        world=world,
        bundle=bundle,
        viewers=known,
        rows=rows,
        videos=world.video_rows(bundle.catalogue.table["video_id"]),
        visits=Visits(viewer[mine], start[mine]),
        elsewhere=elsewhere(world, bundle, ids, plan.days),
        past_events=events,
    )
    return stage, start_us


def elsewhere(world: World, bundle: Bundle, panel: Sequence[str], days: int) -> Elsewhere:
    """What everybody outside the panel engages with, from some days before the loop to its end."""
    at, catalogue = bundle.manifest.as_of, bundle.catalogue
    parts = []
    for events in world.events(since=at - BEFORE, until=at + timedelta(days=days)):
        kind = pc.is_in(events["event_type"], value_set=pa.array(["watch", *WEIGHTS]))
        others = pc.invert(pc.is_in(events["user_id"], value_set=pa.array(panel)))
        wanted = ["video_id", "event_type", "watch_duration_ms", "timestamp", "region"]
        parts.append(events.filter(pc.and_(kind, others)).select(wanted))
    log = pa.concat_tables(parts)
    rows = catalogue.rows(log["video_id"])
    weight = watch_fraction(floats(log["watch_duration_ms"]), catalogue.duration_s[rows] * 1000.0)
    for kind, counts in WEIGHTS.items():
        weight[pc.equal(log["event_type"], kind).to_numpy()] = counts
    kept = rows >= 0
    region = log["region"].combine_chunks().filter(pa.array(kept))
    return Elsewhere(rows[kept], micros(log["timestamp"])[kept], weight[kept].astype(np.float32), region)


def figures(courses: Mapping[str, Course], rival: str = "popularity") -> list[dict[str, Any]]:
    """Watch time per session of each policy, beside ``rival`` and beside the funnel, where those took part.

    Viewers are what is resampled, each weighing as many sessions as they had; those are the same under every
    policy.
    """
    per_session = {name: _per_session(course) for name, course in courses.items()}
    out = []
    for name, course in courses.items():
        sessions = course.sessions.sum(axis=1)
        own = compare(per_session[name], np.zeros(len(sessions)), weights=sessions)
        row: dict[str, Any] = {
            "policy": name,
            "seconds_per_session": own.mean,
            "interval": list(own.difference_interval),
            "new_videos": course.new / max(course.shown, 1),
            "by_week": _by_week(course),
        }
        for other in (rival, "funnel"):
            if other in courses and other != name:
                each = compare(per_session[name], per_session[other], weights=sessions)
                p = paired_p_value(per_session[name] * sessions, per_session[other] * sessions)
                row[f"over_{other}"] = _told(each) | {"p": p}
        out.append(row)
    return out


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same for people, as lines of a Markdown table."""
    lines = ["| policy | seconds per session | over popularity | over the funnel | new videos |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in rows:
        low, high = row["interval"]
        cells = [row["policy"], f"{row['seconds_per_session']:.1f} ({low:.1f} to {high:.1f})"]
        for other in ("popularity", "funnel"):
            each = row.get(f"over_{other}")
            cells.append(
                f"{each['lift']:+.1%} ({each['lift_interval'][0]:+.1%} to {each['lift_interval'][1]:+.1%})"
                if each
                else ""
            )
        lines.append(f"| {' | '.join(cells)} | {row['new_videos']:.1%} |")
    return "\n".join(lines)


def _per_session(course: Course) -> NDArray[np.float64]:
    """Seconds per session of each viewer, float64[P]; 0 for who never came."""
    return np.asarray(course.seconds.sum(axis=1) / np.maximum(course.sessions.sum(axis=1), 1))


def _by_week(course: Course) -> list[float]:
    weeks = [slice(day, day + 7) for day in range(0, course.seconds.shape[1], 7)]
    return [float(course.seconds[:, week].sum() / max(course.sessions[:, week].sum(), 1)) for week in weeks]


def _told(each: Comparison) -> dict[str, Any]:
    kept = ("difference", "difference_interval", "lift", "lift_interval")
    return {name: value for name, value in asdict(each).items() if name in kept}
