"""From the store of experiments to the lake: the table ``exposures``, partitioned by day."""

from datetime import date, timedelta

from upnext.erased import NOBODY, Erased
from upnext.ports import Experiments, Lake

TABLE = "exposures"
"""Columns of :data:`upnext.contracts.EXPOSURES`."""
KEY = ("date", "experiment", "user_id")
LATE = timedelta(days=2)
"""How long after its day an exposure may reach the store."""


def bring_in(store: Experiments, lake: Lake, erased: Erased = NOBODY) -> int:
    """Add the exposures that the lake lacks, and drop from the store what it has for good; says how many.

    Those of ``erased`` people from before their erasure stay out.
    """
    since = _newest(lake)
    new = erased.without(store.exposures(since), "exposed_at")
    added = 0
    if new.num_rows:
        added, _ = lake.merge(TABLE, new, KEY, update=False, partition_by=["date"])
    store.purge(since)
    return added


def _newest(lake: Lake) -> str:
    """The first day of which the lake may lack something: some days before its newest."""
    days = lake.partitions(TABLE, "date")
    return (date.fromisoformat(days[-1]) - LATE).isoformat() if days else ""
