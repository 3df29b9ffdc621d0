"""Every error as a problem document."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from serving.logs import REQUEST_ID
from serving.problems import field_error, problem
from serving.resources import Wrong
from upnext.errors import AccessError, DataError, ReleaseError, UpnextError

RETRY_S = "2"
"""Seconds after which to try again what could not be answered now."""


def handle(app: FastAPI) -> None:
    """Answer with problems, whatever goes wrong."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [field_error(each) for each in error.errors()]
        return problem(422, "; ".join(f"{each.field}: {each.reason}" for each in errors), errors)

    @app.exception_handler(Wrong)
    async def wrong(request: Request, error: Wrong) -> Response:
        return problem(422, str(error), error.errors)

    @app.exception_handler(AccessError)
    async def refused(request: Request, error: AccessError) -> Response:
        return problem(error.status, str(error), headers=error.headers)

    @app.exception_handler(UpnextError)
    async def known(request: Request, error: UpnextError) -> Response:
        ours = isinstance(error, ReleaseError | DataError)  # what a client sends wrong is an InvalidRequest
        status = 503 if ours else error.status
        return problem(status, str(error), headers={"Retry-After": RETRY_S} if status == 503 else None)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}"
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return problem(error.status_code, detail, headers=headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        told = {REQUEST_ID: request.scope[REQUEST_ID]}
        return problem(500, "the server failed at this request; its log says why", headers=told)


def _methods(request: Request) -> set[str]:
    """What a path answers; Starlette itself names the methods of one of its routes only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    there = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in there for method in route.methods or ()}


async def json_of(request: Request) -> Any:
    """The body of a request; a problem 400 where it is not JSON."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
