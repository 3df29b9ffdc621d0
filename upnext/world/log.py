"""From outcomes to event rows, and from event rows to tables in the contract's columns."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upnext.contracts import EVENTS, EventType
from upnext.world.behaviour import Outcome
from upnext.world.columns import key_ids, named, present, row_ids, uuids
from upnext.world.draws import Floats, Keys, extend
from upnext.world.expectation import Audience
from upnext.world.geography import DEVICES, REGIONS
from upnext.world.state import SessionState
from upnext.world.words import topic_words

KINDS = tuple(str(kind) for kind in EventType)
SURFACES = ("home", "search")
"""Of the log's own pages; the second answers a search."""

ROW = np.dtype(
    [
        ("time_us", np.int64),
        ("kind", np.int8),
        ("viewer", np.int64),
        ("video", np.int32),
        ("watch_ms", np.int64),
        ("word", np.int32),
        ("session", np.uint64),
        ("page", np.int16),
        ("surface", np.int8),
        ("position", np.int16),
        ("device", np.int8),
        ("region", np.int8),
        ("propensity", np.float32),
    ]
)
"""One event as numbers: codes instead of names, -1 for none, nan for an unknown propensity."""
Rows = NDArray[np.void]

_CLICK_AFTER_US = 600_000
_AFTER_WATCH_US = {EventType.LIKE: 300_000, EventType.SHARE: 700_000}
_NOT_INTERESTED_AFTER_US = 900_000


def _code(kind: EventType) -> int:
    return KINDS.index(kind)


def rows_of(
    audience: Audience,
    region: NDArray[np.int8],
    state: SessionState,
    slates: NDArray[np.int32],
    outcome: Outcome,
    surface: NDArray[np.int8],
    propensity: Floats | None = None,
) -> Rows:
    """Events of one page of each session, unsorted. ``state`` is the one before the page."""
    click_us = outcome.seen_us + _CLICK_AFTER_US
    watched_us = click_us + outcome.watch_ms * 1000
    aside_us = np.where(outcome.clicked, watched_us, outcome.seen_us) + _NOT_INTERESTED_AFTER_US
    happened = [
        (EventType.IMPRESSION, outcome.shown, outcome.seen_us),
        (EventType.CLICK, outcome.clicked, click_us),
        (EventType.WATCH, outcome.clicked, watched_us),
        (EventType.LIKE, outcome.liked, watched_us + _AFTER_WATCH_US[EventType.LIKE]),
        (EventType.SHARE, outcome.shared, watched_us + _AFTER_WATCH_US[EventType.SHARE]),
        (EventType.NOT_INTERESTED, outcome.not_interested, aside_us),
    ]
    parts = []
    for kind, where, time_us in happened:
        session, position = np.nonzero(where)
        part = np.empty(len(session), dtype=ROW)
        part["time_us"] = time_us[where]
        part["kind"] = _code(kind)
        part["video"] = slates[where]
        part["watch_ms"] = outcome.watch_ms[where] if kind is EventType.WATCH else -1
        part["word"] = -1
        part["page"] = state.page[session]
        part["position"] = position
        part["surface"] = surface[session]
        part["propensity"] = np.nan
        if kind is EventType.IMPRESSION and propensity is not None:
            part["propensity"] = propensity[where]
        _fill_viewer(part, audience, region, state, session)
        parts.append(part)
    return np.concatenate(parts)


def search_rows(
    audience: Audience,
    region: NDArray[np.int8],
    state: SessionState,
    words: NDArray[np.int32],
    which: NDArray[np.int64],
) -> Rows:
    """Searches of the sessions in ``which``, at their audience's time; ``words`` are codes, int32[B]."""
    part = np.empty(len(which), dtype=ROW)
    part["time_us"] = audience.at_us[which]
    part["kind"] = _code(EventType.SEARCH)
    part["video"], part["watch_ms"], part["position"] = -1, -1, -1
    part["word"] = words[which]
    part["page"] = state.page[which]
    part["surface"] = SURFACES.index("search")
    part["propensity"] = np.nan
    _fill_viewer(part, audience, region, state, which)
    return part


def _fill_viewer(
    part: Rows,
    audience: Audience,
    region: NDArray[np.int8],
    state: SessionState,
    session: NDArray[np.int64],
) -> None:
    part["viewer"] = audience.rows[session]
    part["session"] = state.session[session]
    part["device"] = audience.device[session]
    part["region"] = region[session]


def in_time_order(rows: Rows) -> Rows:
    """Rows by time; at the same microsecond by viewer, position and kind, so that the order is total."""
    order = np.lexsort((rows["kind"], rows["position"], rows["viewer"], rows["time_us"]))
    return rows[order]


def request_keys(session: Keys, page: NDArray[np.int16] | NDArray[np.int64]) -> Keys:
    """Key of the request that each page of a session is."""
    return extend(session, page)


def to_table(rows: Rows) -> pa.Table:
    """Rows as a table in the columns of EVENTS, in the same order."""
    request = request_keys(rows["session"], rows["page"])
    event = extend(extend(request, rows["position"]), rows["kind"])
    columns = {
        "event_id": uuids(event, extend(event, 1)),
        "user_id": row_ids("u", rows["viewer"]),
        "event_type": named(rows["kind"], KINDS),
        "video_id": present(row_ids("v", np.maximum(rows["video"], 0)), rows["video"] >= 0),
        "watch_duration_ms": pa.array(rows["watch_ms"], mask=rows["watch_ms"] < 0),
        "query": named(rows["word"], topic_words()),
        "timestamp": pa.array(rows["time_us"]).cast(EVENTS.field("timestamp").type),
        "session_id": key_ids("s", rows["session"]),
        "request_id": key_ids("r", request),
        "surface": named(rows["surface"], SURFACES),
        "position": pa.array(rows["position"].astype(np.int32), mask=rows["position"] < 0),
        "device": named(rows["device"], DEVICES),
        "region": named(rows["region"], REGIONS),
        "propensity": pa.array(rows["propensity"], mask=np.isnan(rows["propensity"])),
    }
    return pa.table(columns, schema=EVENTS)
