"""Engagement events at the door: each accepted or refused on its own, durable before the answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from serving.problems import FieldError, field_error
from upnext.contracts import Event, strictly
from upnext.ports import EventLog

MOST = 1_000
"""Events of one call at most."""
AHEAD = timedelta(minutes=5)
"""How far a client's clock may be ahead of ours."""
ErasedAt = Callable[[str], datetime | None]
"""user_id -> when that user was erased last, None for never."""


@dataclass(frozen=True)
class Refused:
    """Why one event of a call was refused."""

    index: int
    event_id: str | None
    errors: list[FieldError]


@dataclass(frozen=True)
class Receipt:
    """What became of one call: accepted events are durable, repeated ones were so before."""

    event_ids: list[str] = field(default_factory=list)
    """Of the accepted and the repeated, in the order sent."""
    accepted: int = 0
    repeated: int = 0
    refused: list[Refused] = field(default_factory=list)


def take_in(
    payload: Sequence[Any],
    event_log: EventLog,
    now: datetime,
    retention: timedelta,
    erased_at: ErasedAt = lambda user_id: None,
) -> Receipt:
    """Check each event, write the good ones as one durable append, and say what became of each.

    Refused is what does not fit :class:`~upnext.contracts.Event`, lies more than ``AHEAD`` in the future
    of ``now``, is older than the log's ``retention``, or of a user from before the user's erasure. An event
    of a session without a user is the session's: ``session_id`` stands in for ``user_id``.
    """
    good: list[Event] = []
    refused: list[Refused] = []
    for index, raw in enumerate(payload):
        checked = check(raw, index, now, retention, erased_at)
        if isinstance(checked, Event):
            good.append(checked)
        else:
            refused.append(checked)
    fresh = event_log.append(good) if good else []
    return Receipt([event.event_id for event in good], sum(fresh), len(fresh) - sum(fresh), refused)


def check(
    raw: Any, index: int, now: datetime, retention: timedelta, erased_at: ErasedAt = lambda user_id: None
) -> Event | Refused:
    """The event, or why it is refused."""
    if isinstance(raw, dict) and raw.get("user_id") is None and "session_id" in raw:
        raw = raw | {"user_id": raw["session_id"]}
    try:
        event = strictly(Event, raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        return Refused(index, _id(raw), [field_error(each, index) for each in found])
    ahead, erased = event.timestamp - now, erased_at(event.user_id)
    if ahead > AHEAD:
        reason = (
            f"lies {_span(ahead)} ahead of the server's clock, {now:%FT%TZ}: send when it happened, in UTC"
        )
    elif -ahead > retention:
        reason = (
            f"is older than {retention.days} days, as long as events are kept: "
            "bring old logs with `upnext cycle --data files:DIR`"
        )
    elif erased is not None and event.timestamp <= erased:
        reason = "is from before the user was erased: nothing of that time is taken in any more"
    else:
        return event
    value = event.timestamp.isoformat()
    return Refused(
        index, event.event_id, [FieldError(field=f"{index}.timestamp", value=value, reason=reason)]
    )


def _id(raw: Any) -> str | None:
    found = raw.get("event_id") if isinstance(raw, dict) else None
    return found if isinstance(found, str) else None


def _span(time: timedelta) -> str:
    minutes = int(time.total_seconds() // 60)
    return f"{minutes // 1440} days" if minutes >= 2880 else f"{minutes} minutes"
