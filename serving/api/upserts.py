"""Many documents at once: each taken or refused on its own."""

from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.errors import json_of
from serving.problems import problem
from serving.resources import MOST, Resource


async def upsert(request: Request, resource: Resource[Any]) -> Response:
    """Write a list of up to ``MOST`` documents; a problem, 422, when none is acceptable."""
    entries = await json_of(request)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST:
        return problem(422, f"the body is no list of 1 to {MOST} {resource.kind}s")
    done = await run_in_threadpool(resource.upsert, entries)
    if not done.written:
        errors = [error for refused in done.refused for error in refused.errors]
        return problem(422, f"no {resource.kind} was written, {len(done.refused)} refused", errors)
    return Response(orjson.dumps(done.model_dump(), default=str), media_type="application/json")


def document(made: BaseModel, status: int = 200) -> Response:
    """One document as the answer."""
    return Response(made.model_dump_json(), status, media_type="application/json")
