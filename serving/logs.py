"""The program's own log as JSON lines, each with the id of the request it belongs to."""

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO
from uuid import uuid4

import orjson
from starlette.datastructures import MutableHeaders

from serving.statuses import route_of

OURS = ("serving", "feature_repo", "models", "upnext")
"""Packages whose loggers this is about; other libraries' go where BentoML sends them."""
REQUEST_ID = "X-Request-ID"
_request_id: ContextVar[str] = ContextVar("request_id", default="")
log = logging.getLogger(__name__)


def request_id() -> str:
    """Of the request under way; a new one where there is none."""
    return _request_id.get() or str(uuid4())


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, and request_id where there is one.

    Of an error that is logged with its traceback, the kind and the places are told, not the text: that may
    quote what a person sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if held := _request_id.get():
            line["request_id"] = held
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _places(record.exc_info[2])
        return orjson.dumps(line).decode()


def write_json_lines(to: TextIO | None = None, level: int = logging.INFO) -> Callable[[], None]:
    """Write our loggers' records to a stream, stderr by default; gives back what undoes that."""
    handler = logging.StreamHandler(to or sys.stderr)
    handler.setFormatter(JsonLines())
    before = [(logger, logger.level, logger.propagate) for logger in map(logging.getLogger, OURS)]
    for logger, _, _ in before:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False

    def undo() -> None:
        for logger, was, passed_on in before:
            logger.removeHandler(handler)
            logger.setLevel(was)
            logger.propagate = passed_on

    return undo


class Named:
    """Gives each request to an ASGI app an id, which its log lines and its answer tell."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        made = str(uuid4())
        scope[REQUEST_ID] = made
        token = _request_id.set(made)

        async def telling(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = made
            await send(message)

        try:
            await self._app(scope, receive, telling)
        except Exception:
            log.exception("%s %s failed", scope["method"], route_of(scope))
            raise
        finally:
            _request_id.reset(token)


def _places(traceback: Any) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-10:]
