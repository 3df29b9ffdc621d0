"""The BentoML service: a shell around :mod:`serving.api`. ``upnext serve`` starts it."""

import os
from typing import Any

import bentoml

from serving.api import create_app
from serving.launch import OPEN, RELEASE
from serving.logs import write_json_lines
from serving.server import Server
from upnext.errors import ReleaseError
from upnext.settings import load_settings

PROBES = frozenset({"/healthz", "/readyz"})
"""Routes that BentoML answers itself, without saying which release serves or why none does."""
API = "/api/"
"""Where all routes below are ours."""
_running: list[Server] = []


def running() -> Server:
    """The server of this process, once BentoML has started it."""
    if not _running:
        raise ReleaseError("the service is starting: try again in a moment")
    return _running[0]


app = create_app(running)


class Shortcut:
    """Answers the probes with our own routes, and what is ours anyway without BentoML's look at its own."""

    def __init__(self, bentos_app: Any) -> None:
        self._bentos_app = bentos_app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ours = scope["type"] == "http" and (scope["path"] in PROBES or scope["path"].startswith(API))
        await (app if ours else self._bentos_app)(scope, receive, send)


@bentoml.service(
    name="upnext",
    workers=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},  # spans are serving.tracing's; BentoML's cost 2 ms a request, unread
)
@bentoml.asgi_app(app)
class Upnext:
    """One process: the whole funnel, the live consumer and the impression log."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def start(self) -> None:
        settings = load_settings()
        if settings.log_format == "json":
            write_json_lines()
        opened = os.environ.get(OPEN) == "1"
        server = Server(settings, os.environ.get(RELEASE, "champion"), open_without_keys=opened)
        server.start()
        _running.append(server)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        _running.pop().stop()


Upnext.add_asgi_middleware(Shortcut)  # type: ignore[attr-defined]
