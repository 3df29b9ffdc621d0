"""From the feature log to the lake: the table ``logged_features``, one row per item of an answer."""

from collections.abc import Callable
from datetime import datetime

from components.ingest import days_of, of_new_keys
from upnext.erased import NOBODY, Erased
from upnext.ports import Lake
from upnext.sources.base import FeatureSource

TABLE = "logged_features"
"""Columns of LOGGED_FEATURES and ``date``, the UTC day of the answer, by which it is partitioned."""
KEY = ("request_id", "video_id")


def bring_in(
    source: FeatureSource, lake: Lake, oldest: datetime, erased: Callable[[], Erased] = lambda: NOBODY
) -> int:
    """Add what a source has logged since the last time, each (request_id, video_id) once; says how many rows.

    Days that lie wholly before ``oldest`` are dropped, in the lake and at the source. ``erased`` is asked for
    each batch: whose rows from before their erasure stay out.
    """
    added = 0
    for told in source.logged_features():
        rows = erased().without(told, "timestamp")
        new = of_new_keys(lake, TABLE, rows.append_column("date", days_of(rows["timestamp"])), KEY)
        if new.num_rows:
            lake.append(TABLE, new, ["date"])
            added += new.num_rows
    _forget_before(lake, f"{oldest:%Y-%m-%d}")
    source.commit_features(oldest)
    return added


def _forget_before(lake: Lake, day: str) -> None:
    if any(held < day for held in lake.partitions(TABLE, "date")):
        lake.delete(TABLE, f"date < '{day}'")
