"""Where a log is cut in time: what retrievers learn from, what the ranker does, what the gate judges on."""

from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
import pyarrow.dataset as ds

from models.dataset import Split
from upnext.errors import EmptyData
from upnext.ports import Lake
from upnext.times import microseconds

HOLDOUT, VALID, TRAIN = 0.10, 0.05, 0.35
"""Shares of the time span, from its end backwards; the rest is the retrievers' alone."""
LEAST_HOLDOUT, LEAST_VALID = timedelta(days=1), timedelta(hours=12)


def time_span(lake: Lake, until: datetime) -> tuple[datetime, datetime]:
    """Time of the first outcome, and ``until``; EmptyData when nothing happened before."""
    outcomes = lake.scan("outcomes")
    times = outcomes.to_table(columns=["timestamp"], filter=ds.field("timestamp") < until)["timestamp"]
    if not len(times):
        raise EmptyData(f"no outcome before {until:%Y-%m-%dT%H:%M:%SZ}: ingest a log that reaches that far")
    return pc.min(times).as_py().astimezone(UTC), until.astimezone(UTC)


def split_times(first: datetime, until: datetime) -> Split:
    """Cut [first, until): the last tenth, at least a day, is the hold-out; before it tuning and the ranker's.

    A log too short for that gives at most a quarter to the hold-out and an eighth to tuning.
    """
    span = until - first
    holdout = min(max(span * HOLDOUT, LEAST_HOLDOUT), span / 4)
    valid = min(max(span * VALID, LEAST_VALID), span / 8)
    holdout_start = until - holdout
    valid_start = holdout_start - valid
    history_end = valid_start - span * TRAIN
    return Split(*(microseconds(time) for time in (history_end, valid_start, holdout_start, until)))
