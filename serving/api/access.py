"""The door of every route but the probes: the key, its scope, its rate."""

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders

from serving.api.running import Running
from upnext.errors import AccessDenied, UnknownKey
from upnext.keys import Scope

_BEARER = HTTPBearer(auto_error=False, description="A key that `upnext key create` made.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key.")
TOLD = "upnext.headers"
"""Where a request keeps the headers that its answer will have."""


def needs(scope: Scope, server: Running) -> Dependency:
    """Lets in whoever has a key with a scope and requests left; all others get 401, 403 or 429."""

    async def admit(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        header: Annotated[str | None, Security(_HEADER)],
    ) -> None:
        running = server()
        try:
            key_id = running.guard.admit(bearer.credentials if bearer else header, scope)
        except UnknownKey as error:
            error.headers["WWW-Authenticate"] = 'Bearer realm="upnext"'
            raise
        except AccessDenied as error:
            error.headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{scope}"'
            raise
        limits = running.rate_limits
        if key_id is None or limits is None:
            return
        left = await run_in_threadpool(limits.spend, key_id) if limits.waits else limits.spend(key_id)
        if left is not None:
            request.scope[TOLD] = left.headers()

    dependency: Dependency = Depends(admit)
    return dependency


class Told:
    """Adds to an answer the headers that the door noted down."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def telling(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope.get(TOLD, {}))
            await send(message)

        await self._app(scope, receive, telling if scope["type"] == "http" else send)
