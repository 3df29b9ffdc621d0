"""Errors as RFC 9457 problem details: what was wrong, with what value, and what to do."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    """Where it is, such as ``query.count`` or ``body.3.timestamp``."""
    value: Any = None
    reason: str
    """What is wrong and what would be right."""


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list)


def problem(
    status: int,
    detail: str,
    errors: list[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer with a problem document."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    content = orjson.dumps(body.model_dump(), default=str)
    return Response(content, status, dict(headers or {}), MEDIA_TYPE)


def field_error(error: Mapping[str, Any], *prefix: str | int) -> FieldError:
    """One of pydantic's errors in our words."""
    place = ".".join(str(part) for part in (*prefix, *error["loc"]))
    missing = error["type"] == "missing"
    reason = str(error["msg"]).removeprefix("Value error, ")
    return FieldError(field=place, value=None if missing else _shown(error.get("input")), reason=reason)


def _shown(value: object) -> object:
    """A value short enough to repeat in an answer."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
