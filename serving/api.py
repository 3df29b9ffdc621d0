"""The HTTP API: routes, parameters and documents. What they mean is in :mod:`serving.engine`."""

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving import documents
from serving.engine import Answer, Engine
from serving.intake import MOST, Receipt
from serving.problems import MEDIA_TYPE, Problem, field_error, problem
from serving.server import Server
from serving.telemetry import Counted
from upnext import __version__
from upnext.contracts import Id, Recommendation, Token
from upnext.errors import ReleaseError, UpnextError

LARGEST = 4 << 20
"""Bytes of a request's body at most."""
RETRY_S = "2"

Count = Annotated[int, Query(ge=1, le=200, description="Items wanted.")]
UserId = Annotated[Id | None, Query(description="Who watches; one that nobody knows is a stranger.")]
SessionId = Annotated[
    Id | None, Query(description="The client's session; stands in for user_id where there is none.")
]
Region = Annotated[Token | None, Query(description="Where the viewer is; wins over the profile.")]
Device = Annotated[Token | None, Query(description="What the viewer watches on; wins over the profile.")]
Debug = Annotated[bool, Query(description="Add timings, candidate counts, skipped parts and heads.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, text in {422: "A parameter is wrong", 503: "No release is loaded yet"}.items()
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown video", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}


class Intake(BaseModel):
    """What became of the events of one call."""

    accepted: int
    """Newly written, durably."""
    repeated: int
    """Seen before by their event_id; they count once."""
    event_ids: list[str]
    """Of the accepted and repeated ones, in the order sent."""
    refused: list[dict[str, Any]]
    """Index, event_id and errors of each that was refused."""
    applied: bool
    """Whether the next feed already knows them; if not, it will within seconds."""


Running = Callable[[], Server]
"""Gives the server that answers; the app is made before the server is started."""


def create_app(server: Running) -> FastAPI:
    """The API over one server, which the caller starts and stops."""
    app = FastAPI(
        title="Upnext",
        version=__version__,
        description="Video recommendations: feeds, related videos, trending, and the events they learn from.",
    )
    _add_feeds(app, server)
    _add_events(app, server)
    _add_health(app, server)
    _add_errors(app)

    def answered(route: str, status: int) -> None:
        with suppress(ReleaseError):  # nothing to count with while the server starts
            server().telemetry.answered(route, status)

    app.add_middleware(Counted, answered=answered)
    return app


def _add_feeds(app: FastAPI, server: Running) -> None:
    def respond(
        surface: str, session_id: str | None, debug: bool, ask: Callable[[Engine], Answer]
    ) -> Response:
        start, running = perf_counter(), server()
        answer = ask(running.engine)
        took = perf_counter() - start
        body = orjson.dumps(documents.recommendation(answer, 1e3 * took, debug))
        running.telemetry.seconds.labels(surface).observe(took)
        shown = BackgroundTask(running.impressions.put, documents.shown(answer, session_id))
        return Response(body, media_type="application/json", background=shown)

    feed: dict[str, Any] = {"response_model": Recommendation, "tags": ["recommendations"]}

    @app.get("/api/v1/recommendations/home", responses=PROBLEMS, **feed)
    def home(
        user_id: UserId = None,
        count: Count = 30,
        session_id: SessionId = None,
        region: Region = None,
        device: Device = None,
        debug: Debug = False,
    ) -> Response:
        """A personal feed, best first, each item with its reason. A stranger gets a cold-start feed."""
        return respond(
            "home",
            session_id,
            debug,
            lambda engine: engine.home(user_id or session_id, count, region=region, device=device),
        )

    @app.get("/api/v1/recommendations/related", responses=PROBLEMS | MISSING, **feed)
    def related(
        video_id: Annotated[Id, Query(description="The video being watched.")],
        user_id: UserId = None,
        count: Count = 20,
        session_id: SessionId = None,
        region: Region = None,
        device: Device = None,
        debug: Debug = False,
    ) -> Response:
        """What goes well after a video."""
        return respond(
            "related",
            session_id,
            debug,
            lambda engine: engine.related(
                video_id, user_id or session_id, count, region=region, device=device
            ),
        )

    @app.get("/api/v1/recommendations/trending", responses=PROBLEMS, **feed)
    def trending(
        region: Region = None, count: Count = 20, session_id: SessionId = None, debug: Debug = False
    ) -> Response:
        """What is watched most now, in a region or everywhere."""
        return respond("trending", session_id, debug, lambda engine: engine.trending(region, count))


def _add_events(app: FastAPI, server: Running) -> None:
    schema = {"anyOf": [{"$ref": "#/components/schemas/Event"}, {"type": "array", "maxItems": MOST}]}
    schema["anyOf"][1]["items"] = {"$ref": "#/components/schemas/Event"}  # type: ignore[index]
    documented = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    @app.post(
        "/api/v1/events/engagement",
        response_model=Intake,
        responses={400: PROBLEMS[422], 413: PROBLEMS[422], **PROBLEMS},
        openapi_extra=documented,
        tags=["events"],
    )
    async def engagement(request: Request) -> Response:
        """One event, or a list of up to 1,000: each is accepted or refused on its own.

        Accepted events are on disk before the answer. When none is acceptable the answer is a problem, 422.
        """
        body = await request.body()
        if len(body) > LARGEST:
            return problem(
                413, f"the body has {len(body)} bytes, at most {LARGEST} are taken: send fewer events"
            )
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return problem(400, f"the body is not JSON: {error}")
        events = payload if isinstance(payload, list) else [payload]
        if not 1 <= len(events) <= MOST:
            return problem(422, f"the body holds {len(events)} events: send 1 to {MOST} at once")
        receipt, applied = await run_in_threadpool(server().accept, events)
        return _received(receipt, applied)


def _received(receipt: Receipt, applied: bool) -> Response:
    if receipt.refused and not receipt.event_ids:
        errors = [error for refused in receipt.refused for error in refused.errors]
        return problem(422, f"no event was accepted, {len(receipt.refused)} refused", errors)
    refused = [
        {
            "index": each.index,
            "event_id": each.event_id,
            "errors": [error.model_dump() for error in each.errors],
        }
        for each in receipt.refused
    ]
    body = Intake(
        accepted=receipt.accepted,
        repeated=receipt.repeated,
        event_ids=receipt.event_ids,
        refused=refused,
        applied=applied,
    )
    return Response(orjson.dumps(body.model_dump(), default=str), media_type="application/json")


def _add_health(app: FastAPI, server: Running) -> None:
    @app.get("/healthz", tags=["service"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=PROBLEMS, tags=["service"], response_model=dict[str, Any])
    def readyz() -> Response:
        """A release is loaded; says which, and what is in trouble."""
        running = server()
        if not running.engine.ready:
            why = running.trouble.get("release", "it is being loaded")
            return problem(503, f"no release serves yet: {why}", headers={"Retry-After": RETRY_S})
        release = running.engine.current
        body = {
            "status": "ready",
            "release": release.version,
            "as_of": release.bundle.manifest.as_of,
            "videos": len(release.bundle.catalogue),
            "trouble": running.trouble,
        }
        return Response(orjson.dumps(body), media_type="application/json")

    @app.get("/metrics", tags=["service"], response_model=str)
    def metrics() -> Response:
        """Figures for Prometheus."""
        running = server()
        running.telemetry.applied.set(running.live.applied)
        return Response(running.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [field_error(each) for each in error.errors()]
        return problem(422, "; ".join(f"{each.field}: {each.reason}" for each in errors), errors)

    @app.exception_handler(UpnextError)
    async def known(request: Request, error: UpnextError) -> Response:
        status = 503 if isinstance(error, ReleaseError) else error.status
        return problem(status, str(error), headers={"Retry-After": RETRY_S} if status == 503 else None)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return problem(error.status_code, detail, headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return problem(500, "the server failed at this request; its log says why")
