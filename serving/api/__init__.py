"""The HTTP API: routes, parameters and documents, a module per resource. What they mean is in :mod:`serving`.

The OpenAPI document that it serves is the contract: every parameter with its bounds, every answer with its
model, every error a problem document.
"""

from contextlib import suppress

from fastapi import FastAPI

from serving.api import errors, events, recommendations, search, service, users, videos
from serving.api.access import Told
from serving.api.contract import publish
from serving.api.running import Running
from serving.bounds import Bounded
from serving.logs import Named
from serving.shedding import Shedding
from serving.telemetry import Counted
from serving.tracing import Traced
from upnext import __version__
from upnext.errors import ReleaseError

__all__ = ["Running", "create_app"]


def create_app(server: Running) -> FastAPI:
    """The API over one server, which the caller starts and stops."""
    app = FastAPI(
        title="Upnext",
        version=__version__,
        description="Video recommendations: feeds, shelves and search, the events they learn from, and the "
        "videos and users they know.",
        redirect_slashes=False,
    )
    for module in (recommendations, search, events, videos, users, service):
        app.include_router(module.router(server))
    errors.handle(app)
    publish(app)

    def answered(route: str, status: int) -> None:
        with suppress(ReleaseError):  # nothing to count with while the server starts
            server().telemetry.answered(route, status)

    app.add_middleware(Told)
    app.add_middleware(Bounded)
    app.add_middleware(Shedding, lanes=lambda: server().lanes)
    app.add_middleware(Counted, answered=answered)
    app.add_middleware(Named)
    app.add_middleware(Traced, tracing=lambda: server().tracing)
    return app
