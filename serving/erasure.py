"""Erasing a person from every store, with a receipt.

Erasers run in the order of :func:`erasers`: what feeds other stores goes first, so that nothing flows back.
The erasure is remembered before the first of them runs (:mod:`upnext.erased`): from then on neither an event
from before it nor a batch of the log that is being read brings the person back.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pyarrow.compute as pc
from pydantic import BaseModel

from feature_repo.specs import STREAMS, VIEWS
from upnext.erased import Erased
from upnext.errors import StoreUnavailable
from upnext.ports import Lake, OnlineFeatures
from upnext.stores import Stores
from upnext.stores.delta_lake import disguised

Eraser = Callable[[str], int]
"""user_id -> how many events, rows or values were removed."""
ATTEMPTS = 5
"""Times that a table of the lake is tried which somebody else writes meanwhile."""
KEEP = timedelta(0)
"""For how long files with erased rows stay in the lake for readers of older versions: not at all."""
log = logging.getLogger(__name__)


class ErasureReceipt(BaseModel):
    """Proof of what was done for whoever asked."""

    erasure_id: str
    user_id: str
    erased_at: datetime
    removed: dict[str, int]
    """By store: events, rows or values."""


def erase(user_id: str, stores: Stores, now: datetime, waiting: Mapping[str, Eraser]) -> ErasureReceipt:
    """Remove a person everywhere.

    ``waiting`` erases what this process holds and has not written yet; it runs first and, for what was
    being written meanwhile, last.

    A repeated call removes nothing more and says so. Where a store is away the call fails with what it
    raises; then call again.
    """
    erased = Erased.read(stores.erasures, stores.settings)
    stores.erasures.remember(erased.pseudonym(user_id), now)
    removed: dict[str, int] = {}
    again: dict[str, Eraser] = {
        "event_log": stores.event_log.forget,
        "experiments": stores.experiments.forget,
        "feature_log": stores.feature_log.forget,
        "history": stores.history.forget,
    }
    for name, eraser in [*waiting.items(), *erasers(stores).items(), *again.items(), *waiting.items()]:
        removed[name] = removed.get(name, 0) + eraser(user_id)
    receipt = ErasureReceipt(erasure_id=str(uuid4()), user_id=user_id, erased_at=now, removed=removed)
    log.info("erasure %s removed %d entries", receipt.erasure_id, sum(removed.values()))
    return receipt


def erasers(stores: Stores) -> dict[str, Eraser]:
    """One per store that holds people, the sources of others first."""
    return {
        "profiles": lambda user_id: int(stores.profiles.forget(user_id)),
        "event_log": stores.event_log.forget,
        "experiments": stores.experiments.forget,
        "online_features": lambda user_id: _features(stores.online_features, user_id),
        "feature_log": stores.feature_log.forget,
        "lake": lambda user_id: _lake(stores.lake, user_id),
        "history": stores.history.forget,
    }


def _features(store: OnlineFeatures, user_id: str) -> int:
    """Remove a user's values from the views of users, in every layout."""
    of_users = {name for name, view in {**VIEWS, **STREAMS}.items() if view.key == "user_id"}
    views = [view for view in store.views() if view.split("@")[0] in of_users]
    return sum(store.delete(view, [user_id]) for view in views)


def _lake(lake: Lake, user_id: str) -> int:
    """Remove a user's rows from every table that has users, and the files that still hold them."""
    removed = 0
    for table in lake.tables():
        if table == "quarantine":
            removed += _without(lake, table, "row", _naming(lake, user_id))
        elif "user_id" in lake.scan(table).schema.names:
            removed += _without(lake, table, "user_id", [user_id])
    return removed


def _naming(lake: Lake, user_id: str) -> list[str]:
    """The refused rows that name a user."""
    rows = lake.read("quarantine", ["row"])["row"]
    named: list[str] = rows.filter(pc.match_substring(rows, _as_json(user_id))).unique().to_pylist()
    return named


def _without(lake: Lake, table: str, column: str, values: Sequence[str]) -> int:
    removed, where = 0, disguised(column, values)
    for attempt in range(ATTEMPTS):
        try:
            removed = lake.delete(table, where) if values else 0
            break
        except StoreUnavailable:  # another writer came between
            if attempt == ATTEMPTS - 1:
                raise
    lake.vacuum(table, KEEP)  # also after nothing: the call before may have been cut short
    return removed


def _as_json(user_id: str) -> str:
    """An id as it stands in a refused row."""
    import orjson

    return orjson.dumps(user_id).decode()
