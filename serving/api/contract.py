"""What the OpenAPI document says beyond what FastAPI finds out by itself."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.problems import MEDIA_TYPE, Problem
from upnext.contracts import Event, EventType, User, Video

Responses = dict[int | str, dict[str, Any]]
_SAYS: Mapping[int, str] = {
    400: "The body is not JSON",
    401: "A key is needed, and none that is valid was sent",
    403: "The key has not the scope",
    404: "Nobody knows it",
    413: "The body is too large",
    414: "The URL is too long",
    422: "A parameter or the body is wrong",
    429: "The key has asked too often; go on after Retry-After seconds",
    503: "No release is loaded yet, a store does not answer or cannot be read, or there is too much to do; "
    "go on after Retry-After seconds",
}
_ALWAYS = (401, 403, 414, 422, 429, 503)
_WITH_BODY = (400, 413)
_MODELS: tuple[type[BaseModel], ...] = (Event, Video, User, Problem)


def problems(*more: int, body: bool = False) -> Responses:
    """The errors of a route that needs a key, as problem documents; ``more`` beside the usual ones."""
    return problem_responses(*_ALWAYS, *more, *(_WITH_BODY if body else ()))


def problem_responses(*statuses: int) -> Responses:
    """Problem documents by status."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _SAYS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted(set(statuses))
    }


def json_body(*schemas: Mapping[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body itself."""
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def listed(name: str, most: int) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": most, "items": ref(name)}


def publish(app: FastAPI) -> None:
    """Let the app serve its own OpenAPI document together with the schemas of bodies that routes read."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            held = document.setdefault("components", {}).setdefault("schemas", {})
            held |= {name: schema for name, schema in _schemas().items() if name not in held}
            for path in document["paths"].values():
                for operation in path.values():
                    _never_null(operation.get("parameters", []))
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _never_null(parameters: list[dict[str, Any]]) -> None:
    """A parameter that may be left out is not one that may be null: a URL has no null."""
    for parameter in parameters:
        forms = parameter["schema"].pop("anyOf", [])
        for form in forms:
            if form != {"type": "null"}:
                parameter["schema"] |= form


def _schemas() -> dict[str, Any]:
    _, document = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = document["$defs"]
    schemas |= _events(schemas["Event"])
    for name, key in (("Video", "video_id"), ("User", "user_id")):
        schemas[f"{name}Body"] = _optional(schemas[name], key)
        schemas[f"{name}Patch"] = _nullable(schemas[f"{name}Body"])
    return schemas


def _events(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event by what it is: each form has what it needs, and a session may stand in for a user."""
    forms: dict[str, tuple[str, ...]] = {"SearchEvent": ("search",), "WatchEvent": ("watch",)}
    needed = {"SearchEvent": "query", "WatchEvent": "watch_duration_ms"}
    forms["VideoEvent"] = tuple(each for each in EventType if each not in ("search", "watch"))
    made: dict[str, Any] = {"Event": {"oneOf": [ref(name) for name in forms], "title": "Event"}}
    for name, kinds in forms.items():
        form: dict[str, Any] = deepcopy(dict(event)) | {"title": name}
        fields = form["properties"]
        fields["event_type"] = {"enum": [str(kind) for kind in kinds], "type": "string"}
        own = [field for field in (needed.get(name),) if field]
        own += [] if name == "SearchEvent" else ["video_id"]
        for field in own:
            fields[field] = _present(fields[field])
        form["required"] = ["event_type", *own]
        form["anyOf"] = [
            {"required": [who], "properties": {who: _present(fields[who])}}
            for who in ("user_id", "session_id")
        ]
        fields["user_id"] = {"anyOf": [fields["user_id"], {"type": "null"}]}
        made[name] = form
    return made


def _present(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a field that may not be null here."""
    forms = [form for form in field.get("anyOf", [field]) if form != {"type": "null"}]
    return dict(forms[0])


def _optional(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A document whose id is in its path."""
    found: dict[str, Any] = deepcopy(dict(schema))
    found["properties"].pop(key)
    found.pop("required", None)
    return found


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch: null takes a field away."""
    found = deepcopy(dict(schema))
    for name, field in found["properties"].items():
        field.pop("default", None)
        if {"type": "null"} not in field.get("anyOf", []):
            found["properties"][name] = {"anyOf": [field, {"type": "null"}]}
    return found
