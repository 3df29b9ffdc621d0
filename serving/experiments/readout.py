"""From the lake to one row per unit: what those who were exposed to an experiment did, and did before it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from models.experiment_stats import Readout, analyse
from upnext.contracts import UtcTime
from upnext.errors import EmptyData
from upnext.experiments import Experiment
from upnext.ports import Lake
from upnext.times import DAY_US, microseconds

BEFORE = timedelta(days=14)
"""The time before the start from which the covariates of CUPED come."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Units by their first exposure: ids, variant str[n], at int64[n] µs.

    Those of two variants are left out.
    """

    ids: pa.Array
    variant: NDArray[np.str_]
    at: NDArray[np.int64]
    crossed: int
    """Units that met two variants, and count for none."""

    @classmethod
    def of(cls, lake: Lake, experiment: Experiment) -> "Population":
        rows = None
        if lake.version("exposures") >= 0:
            mine = ds.field("experiment") == experiment.name
            rows = lake.scan("exposures").to_table(columns=["user_id", "variant", "exposed_at"], filter=mine)
        if rows is None or not rows.num_rows:
            raise EmptyData(
                f"the lake has no exposure of {experiment.name!r}: serve while it runs, then bring the log "
                "in with `upnext step ingest --data log:`"
            )
        first = rows.group_by("user_id").aggregate(
            [("exposed_at", "min"), ("variant", "min"), ("variant", "max")]
        )
        clean = first.filter(pc.equal(first["variant_min"], first["variant_max"]))
        at = pc.cast(clean["exposed_at_min"].cast(UtcTime), pa.int64()).to_numpy()
        variant = np.asarray(clean["variant_min"].to_pylist(), np.str_)
        return cls(clean["user_id"].combine_chunks(), variant, at, first.num_rows - clean.num_rows)


def read_out(lake: Lake, experiment: Experiment, now: datetime) -> tuple[Readout, Population]:
    """Read an experiment out of the lake; EmptyData while nobody was exposed to it."""
    population = Population.of(lake, experiment)
    ended = experiment.stop is not None and experiment.stop <= now
    return analyse(experiment, population.variant, columns(lake, experiment, population), ended), population


def columns(lake: Lake, experiment: Experiment, population: Population) -> dict[str, Floats]:
    """What each unit did, float64[n] by name: see :data:`models.experiment_stats.METRICS`."""
    events = _events(lake, experiment, population)
    unit = pc.index_in(events["user_id"], value_set=population.ids).to_numpy()
    time = pc.cast(events["timestamp"].cast(UtcTime), pa.int64()).to_numpy()
    kind = np.asarray(events["event_type"].to_pylist(), np.str_)
    seconds = pc.fill_null(events["watch_duration_ms"], 0).to_numpy() / 1e3
    start, n = microseconds(experiment.start), len(population.at)
    after, before = time >= population.at[unit], time < start
    active = kind != "impression"

    def total(chosen: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
        picked = None if weights is None else weights[chosen]
        return np.bincount(unit[chosen], picked, minlength=n).astype(np.float64)

    day, first_day = time // DAY_US, population.at // DAY_US
    returning = first_day + experiment.retention_day
    days_before = np.unique(np.stack([unit, day])[:, active & before], axis=1)[0]
    last_day = int(time.max(initial=start)) // DAY_US
    return {
        "watch_s": total(after & (kind == "watch"), seconds),
        "watch_s_before": total(before & (kind == "watch"), seconds),
        "clicks": total(after & (kind == "click")),
        "clicks_before": total(before & (kind == "click")),
        "impressions": total(after & ~active),
        "impressions_before": total(before & ~active),
        "turned_down": total(after & (kind == "not_interested")),
        "returned": np.minimum(total(after & active & (day == returning[unit])), 1.0),
        "days_before": np.bincount(days_before, minlength=n).astype(np.float64),
        "matured": (returning < last_day).astype(np.float64),
    }


def _events(lake: Lake, experiment: Experiment, population: Population) -> pa.Table:
    """The units' events from before the start to the stop."""
    first = experiment.start - BEFORE
    wanted = (ds.field("date") >= f"{first:%Y-%m-%d}") & (ds.field("timestamp") >= pa.scalar(first, UtcTime))
    if experiment.stop is not None:
        wanted &= ds.field("timestamp") < pa.scalar(experiment.stop, UtcTime)
    wanted &= ds.field("user_id").isin(population.ids)
    names = ["user_id", "event_type", "watch_duration_ms", "timestamp"]
    return lake.scan("events").to_table(columns=names, filter=wanted)
