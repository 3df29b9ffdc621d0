"""Real-time features: one pure ``update(state, event) -> state``, and what a state says at a time.

This is the reference, one state per video and one per viewer: :mod:`feature_repo.stream_log` finds the same
values for any time of a log, :mod:`feature_repo.stream_state` keeps them for serving, and a test holds the
three equal. Windows are made of whole minutes: the last 5 minutes are the minute that has begun and the four
before it, so nothing is kept but a tally per minute.
"""

from dataclasses import dataclass, replace
from math import log1p

import numpy as np
from numpy.typing import NDArray

from feature_repo.specs import STREAM_WINDOWS, USER_STREAM, VIDEO_STREAM, ViewSpec
from upnext.times import MINUTE_US

LONGEST = max(STREAM_WINDOWS.values())
"""Minutes after which an event is forgotten."""
SITTING_US = 30 * MINUTE_US
"""Without an engagement for so long, a sitting is over."""
AMOUNTS = ("impressions", "clicks", "watches", "watch_s", "likes", "not_interested")
"""What is tallied per minute: counts, and the milliseconds behind ``watch_s``."""
KINDS = {
    "impression": "impressions",
    "click": "clicks",
    "watch": "watches",
    "like": "likes",
    "not_interested": "not_interested",
}
"""Type of an event -> the amount that it adds one to."""
ENGAGED = ("click", "watch", "like", "share", "not_interested", "search")
"""Types of events that keep a sitting going."""
COUNTED: dict[str, tuple[str, ...]] = {
    VIDEO_STREAM.name: AMOUNTS,
    USER_STREAM.name: ("watches", "watch_s", "not_interested"),
}
"""What of it each view tells."""

Tally = tuple[int, ...]
"""Amounts of one minute, in the order of AMOUNTS."""


@dataclass(frozen=True)
class StreamEvent:
    """What a stream sees of an event. ``ts`` in µs since the epoch, ``watch_ms`` 0 where unknown."""

    kind: str
    ts: int
    watch_ms: int = 0


@dataclass(frozen=True)
class StreamState:
    """What is remembered of one video or viewer.

    minutes: minute since 1970 -> amounts; depth, last: engagements of the sitting, and when the newest was.
    """

    minutes: tuple[tuple[int, Tally], ...] = ()
    depth: int = 0
    last: int = -(2**62)


def update(state: StreamState, event: StreamEvent) -> StreamState:
    """The state after one more event; events come in the order of their times."""
    minute, amounts = event.ts // MINUTE_US, amounts_of(event)
    kept = [(at, tally) for at, tally in state.minutes if at > minute - LONGEST]
    if kept and kept[-1][0] == minute:
        amounts = tuple(old + new for old, new in zip(kept.pop()[1], amounts, strict=True))
    state = replace(state, minutes=(*kept, (minute, amounts)))
    if event.kind not in ENGAGED:
        return state
    going = event.ts - state.last < SITTING_US
    return replace(state, depth=state.depth + 1 if going else 1, last=event.ts)


def values(view: ViewSpec, state: StreamState, now: int) -> NDArray[np.float32]:
    """Features of a view at a time (µs), float32[d], from the events that were folded into the state."""
    minute = now // MINUTE_US
    out = []
    for minutes in STREAM_WINDOWS.values():
        for name in COUNTED[view.name]:
            place = AMOUNTS.index(name)
            total = sum(tally[place] for at, tally in state.minutes if at > minute - minutes)
            out.append(log1p(total / 1000 if name == "watch_s" else total))
    if view is USER_STREAM:
        idle = now - state.last
        out.append(log1p(state.depth) if idle < SITTING_US else 0.0)
        out.append(log1p(min(idle / MINUTE_US, LONGEST)))
    return np.array(out, np.float32)


def amounts_of(event: StreamEvent) -> Tally:
    """What one event adds to its minute."""
    counted = _ONE.get(event.kind, _NOTHING)
    if event.kind != "watch":
        return counted
    return (*counted[:_PLAYED], event.watch_ms, *counted[_PLAYED + 1 :])


_ONE = {kind: tuple(int(name == counted) for name in AMOUNTS) for kind, counted in KINDS.items()}
_NOTHING, _PLAYED = (0,) * len(AMOUNTS), AMOUNTS.index("watch_s")
