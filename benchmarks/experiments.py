"""Whether the readout of an experiment can be trusted: A/A splits of the simulated world, and a true effect.

make bench NAME=experiments

One log of the world is split by the hash that serving uses, again and again. What the viewers did before the
experiment is real to them, so CUPED has something to work on. The peer is the fixed interval looked at daily.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binom

from models.experiment_stats import ALPHA, Effect, Metric, compare, effect
from serving.experiments.assignment import Assignments
from upnext.experiments import Experiment, parse
from upnext.sources.world import WorldSource
from upnext.world.config import DAY_US, START

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Log:
    """What n viewers did by day: watch_s, clicks and impressions, float64[n, days]."""

    ids: list[str]
    watch_s: Matrix
    clicks: Matrix
    impressions: Matrix
    before: int
    """Days before the experiments."""

    @classmethod
    def of(cls, world: str, before: int) -> "Log":
        """The log of a world that begins ``before`` days before the experiments."""
        events = pa.concat_tables([pa.table(each) for each in _events(world)])
        ids = pc.unique(events["user_id"])
        unit = pc.index_in(events["user_id"], value_set=ids).to_numpy()
        time = pc.cast(events["timestamp"], pa.int64()).to_numpy()
        day = (time - int(START.timestamp() * 1e6)) // DAY_US
        kind = np.asarray(events["event_type"].to_pylist(), np.str_)
        seconds = pc.fill_null(events["watch_duration_ms"], 0).to_numpy() / 1e3

        def by_day(what: str, weight: NDArray[np.float64] | None = None) -> Matrix:
            made, mine = np.zeros((len(ids), int(day.max()) + 1)), kind == what
            np.add.at(made, (unit[mine], day[mine]), 1.0 if weight is None else weight[mine])
            return made

        counts = by_day("watch", seconds), by_day("click"), by_day("impression")
        log = cls(ids.to_pylist(), *counts, before)
        return log.only(log.impressions[:, before:].any(axis=1))

    def only(self, kept: NDArray[np.bool_]) -> "Log":
        ids = [each for each, keep in zip(self.ids, kept, strict=True) if keep]
        return Log(ids, self.watch_s[kept], self.clicks[kept], self.impressions[kept], self.before)

    def raised(self, treated: NDArray[np.bool_], by: float) -> "Log":
        """The log in which the treated watched so much more from the start of the experiments on."""
        watch_s = self.watch_s.copy()
        watch_s[treated, self.before :] *= 1 + by
        return replace(self, watch_s=watch_s)

    @property
    def days(self) -> int:
        return self.watch_s.shape[1] - self.before

    def columns(self, day: int) -> dict[str, Matrix]:
        """What :func:`models.experiment_stats.effect` reads, after so many days of the experiment."""
        names = {"watch_s": self.watch_s, "clicks": self.clicks, "impressions": self.impressions}
        after = {
            name: values[:, self.before : self.before + day].sum(axis=1) for name, values in names.items()
        }
        before = {f"{name}_before": values[:, : self.before].sum(axis=1) for name, values in names.items()}
        return after | before

    def exposed(self, day: int) -> NDArray[np.bool_]:
        """bool[n], who was shown something within so many days of the experiment."""
        return self.impressions[:, self.before : self.before + day].any(axis=1)


def split(log: Log, run: int) -> tuple[Experiment, NDArray[np.str_]]:
    """An experiment that is like the others but for its salt, and each viewer's variant."""
    experiment = parse(
        {
            "name": "aa",
            "layer": "world",
            "salt": f"run {run}",
            "start": START,
            "variants": [{"name": "control", "weight": 0.5}, {"name": "treatment", "weight": 0.5}],
            "primary": ["watch_s"],
            "guardrails": ["ctr"],
            "expected_users": max(len(log.ids), 100),
        }
    )
    assignments = Assignments((experiment,))
    picked = (assignments.variant(experiment, unit) for unit in log.ids)
    return experiment, np.asarray([each.name if each else "" for each in picked], np.str_)


def looks(
    log: Log, experiment: Experiment, variant: NDArray[np.str_], days: Sequence[int], metric: str = "watch_s"
) -> list[Effect]:
    """A metric after each of some days, of those exposed by then."""
    found = []
    for day in days:
        here = log.exposed(day)
        columns = {name: values[here] for name, values in log.columns(day).items()}
        found.append(effect(metric, "primary", "treatment", experiment, variant[here], columns))
    return found


def without_cuped(log: Log, variant: NDArray[np.str_]) -> float:
    """p-value of watch time at the end, from what came after the start alone."""
    here, watch_s = log.exposed(log.days), log.columns(log.days)["watch_s"]
    sides = ({"watch_s": watch_s[here & (variant == side)]} for side in ("control", "treatment"))
    result, _ = compare(Metric("watch_s"), *sides)
    return float(result.pvalue)


@dataclass(frozen=True)
class Rates:
    """Shares of runs, and a mean over them."""

    fixed: float
    """The fixed interval excludes 0 at the end."""
    peeked: float
    """It ever did, looked at daily."""
    always: float
    """The always-valid interval ever did."""
    ctr: float
    """The fixed interval of the click-through rate, a ratio, excludes 0 at the end."""
    plain: float
    """The fixed interval of watch time without CUPED excludes 0 at the end."""
    narrowed: float
    """Mean share by which CUPED made the interval of watch time narrower."""


def rates(log: Log, runs: int, raised: float = 0.0, first: int = 0) -> Rates:
    """How often the intervals exclude 0 over many splits; watch time is truly ``raised`` by so much."""
    rows = []
    for run in track(range(first, first + runs), f"{runs} splits, {raised:+.0%}", transient=True):
        experiment, variant = split(log, run)
        held = log.raised(variant == "treatment", raised) if raised else log
        daily = looks(held, experiment, variant, range(2, log.days + 1))
        ctr = looks(held, experiment, variant, [log.days], "ctr")[0]
        rows.append(
            (
                daily[-1].p < ALPHA,
                any(each.p < ALPHA for each in daily),
                any(each.direction for each in daily),
                ctr.p < ALPHA,
                without_cuped(held, variant) < ALPHA,
                daily[-1].narrowed,
            )
        )
    return Rates(*np.mean(np.asarray(rows, np.float64), axis=0).tolist())


def _events(world: str) -> Sequence[pa.Table]:
    names = ["user_id", "event_type", "watch_duration_ms", "timestamp"]
    return [pa.table(each).select(names) for each in WorldSource(world).events()]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--runs", type=int, default=1_000, help="A/A splits")
    options.add_argument(
        "--world", default="users=3000,videos=2000,days=28,seed=7", help="options of the world"
    )
    given = options.parse_args()

    log = Log.of(given.world, before=14)
    same, more = rates(log, given.runs), rates(log, given.runs // 10, raised=0.1, first=given.runs)
    low, high = (bound / given.runs for bound in binom.interval(0.99, given.runs, ALPHA))
    table = Table("of the runs, excludes 0", "A/A", "+10 % watch time", title=f"{len(log.ids):,} viewers")
    figures = []
    for label, name, holds in (
        ("fixed interval of watch time, one look", "fixed", low <= same.fixed <= high),
        ("fixed interval of watch time without CUPED, one look", "plain", low <= same.plain <= high),
        ("fixed interval of CTR (ratio), one look", "ctr", low <= same.ctr <= high),
        ("fixed interval of watch time, daily looks", "peeked", True),
        ("always-valid interval of watch time, daily looks", "always", same.always <= ALPHA),
    ):
        value = getattr(same, name)
        table.add_row(label, f"{value:.1%}", f"{getattr(more, name):.0%}")
        goal = None if name == "peeked" else ALPHA
        figures.append(
            {
                "name": f"experiments.aa.{name}",
                "value": value,
                "unit": "share",
                "goal": goal,
                "holds": bool(holds),
            }
        )
    Console().print(table)
    Console().print(f"CUPED makes the intervals of watch time {more.narrowed:.0%} narrower;")
    Console().print(f"of {given.runs} runs at 5 %, 99 % of the time {low:.1%} to {high:.1%} reject.")
    for name, value in (("found", more.always), ("narrowed", more.narrowed)):
        figures.append(
            {"name": f"experiments.{name}", "value": value, "unit": "share", "goal": None, "holds": True}
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
