"""What a request may weigh: reading stops at the limit, however the body is sent."""

from typing import Any

from starlette.exceptions import HTTPException

from serving.problems import problem

LARGEST = 4 << 20
"""Bytes of a request's body at most."""
LONGEST = 16 << 10
"""Bytes of a request's path and query at most."""


class Bounded:
    """Refuses a URL longer than ``LONGEST`` with 414, and a body larger than ``LARGEST`` with 413.

    A body that says its length is refused before any of it is read; of one sent in chunks no more than the
    limit is.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if length > LONGEST:
            refusal = problem(414, f"the URL has {length} bytes, at most {LONGEST} are read")
            await refusal(scope, receive, send)
            return
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not told.isdigit() or int(told) > LARGEST:
            await _too_large(told.decode("latin-1"))(scope, receive, send)
            return
        got = 0

        async def bounded() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > LARGEST:
                raise HTTPException(413, _SAY)
            return message

        await self._app(scope, bounded, send)


_SAY = f"at most {LARGEST} bytes of a body are read: send less at once"


def _too_large(told: str) -> Any:
    return problem(413, f"the body has {told[:20]} bytes, {_SAY}")
