"""How an ASGI app answered, for those around it who count or trace."""

from collections.abc import Callable
from typing import Any


async def answer(app: Any, scope: Any, receive: Any, send: Any, told: Callable[[int], None]) -> None:
    """Run an app. ``told`` hears the status when its answer starts; 500 where it fails before that."""
    started = False

    async def telling(message: Any) -> None:
        nonlocal started
        if message["type"] == "http.response.start":
            started = True
            told(message["status"])
        await send(message)

    try:
        await app(scope, receive, telling)
    except Exception:
        if not started:
            told(500)  # which is answered further out
        raise


def route_of(scope: Any) -> str:
    """The route's pattern, which names nobody; ``unknown`` where none matched."""
    return getattr(scope.get("route"), "path", "unknown")
