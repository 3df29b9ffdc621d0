"""Probes and figures."""

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import problem_responses, problems
from serving.api.errors import RETRY_S
from serving.api.running import Running
from serving.problems import problem
from upnext.keys import Scope


def router(server: Running) -> APIRouter:
    """``/healthz``, ``/readyz``, which need no key, and ``/metrics``."""
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz", responses=problem_responses(414))
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/readyz", responses=problem_responses(414, 503), response_model=dict[str, Any])
    async def readyz() -> Response:
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

    @routes.get(
        "/metrics",
        dependencies=[needs(Scope.ADMIN, server)],
        response_class=PlainTextResponse,
        responses=problems(),
    )
    def metrics() -> Response:
        """Figures for Prometheus."""
        running = server()
        running.telemetry.applied.set(running.live.applied)
        return Response(running.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
