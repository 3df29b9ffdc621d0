"""Engagement events."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import json_body, listed, problems, ref
from serving.api.errors import json_of
from serving.api.running import Running
from serving.intake import MOST, Receipt
from serving.problems import FieldError, problem
from upnext.keys import Scope


class RefusedEvent(BaseModel):
    """Why one event was refused."""

    index: int
    """Its place in the call."""
    event_id: str | None
    errors: list[FieldError]


class Intake(BaseModel):
    """What became of the events of one call."""

    accepted: int
    """Newly written, durably."""
    repeated: int
    """Seen before by their event_id; they count once."""
    event_ids: list[str]
    """Of the accepted and repeated ones, in the order sent."""
    refused: list[RefusedEvent]
    applied: bool
    """Whether the next feed already knows them; if not, it will within seconds."""


def router(server: Running) -> APIRouter:
    """``/api/v1/events/…``."""
    routes = APIRouter(
        prefix="/api/v1/events",
        tags=["events"],
        dependencies=[needs(Scope.WRITE, server)],
        responses=problems(body=True),
    )

    @routes.post(
        "/engagement",
        response_model=Intake,
        openapi_extra=json_body(ref("Event"), listed("Event", MOST)),
    )
    async def engagement(request: Request) -> Response:
        """One event, or a list of up to 1,000: each is accepted or refused on its own.

        Accepted events are on disk before the answer. When none is acceptable the answer is a problem, 422.
        """
        payload = await json_of(request)
        events: list[Any] = payload if isinstance(payload, list) else [payload]
        if not 1 <= len(events) <= MOST:
            return problem(422, f"the body holds {len(events)} events: send 1 to {MOST} at once")
        receipt, applied = await run_in_threadpool(server().accept, events)
        return _received(receipt, applied)

    return routes


def _received(receipt: Receipt, applied: bool) -> Response:
    if receipt.refused and not receipt.event_ids:
        errors = [error for refused in receipt.refused for error in refused.errors]
        return problem(422, f"no event was accepted, {len(receipt.refused)} refused", errors)
    refused = [
        RefusedEvent(index=each.index, event_id=each.event_id, errors=each.errors) for each in receipt.refused
    ]
    body = Intake(
        accepted=receipt.accepted,
        repeated=receipt.repeated,
        event_ids=receipt.event_ids,
        refused=refused,
        applied=applied,
    )
    return Response(orjson.dumps(body.model_dump(), default=str), media_type="application/json")
