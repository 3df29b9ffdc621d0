"""docs/api.md tells of every route, parameter and status that the contract has."""

from pathlib import Path

from serving.api import create_app

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


def never():
    raise AssertionError("the contract needs no server")


def operations():
    paths = create_app(never).openapi()["paths"]
    return [
        (method.upper(), path, told) for path, methods in paths.items() for method, told in methods.items()
    ]


def test_every_route_is_documented():
    missing = [f"{method} {path}" for method, path, _ in operations() if f"`{method} {path}`" not in PAGE]
    assert not missing


def test_every_parameter_is_documented_and_described():
    parameters = [(path, one) for _, path, told in operations() for one in told.get("parameters", [])]
    assert parameters
    assert not [(path, one["name"]) for path, one in parameters if not one.get("description")]
    named = {one["name"] for _, one in parameters if one["in"] == "query"}
    assert not [name for name in named if f"`{name}`" not in PAGE]


def test_every_parameter_is_bounded():
    for _, path, told in operations():
        for one in told.get("parameters", []):
            schema = one["schema"]
            bounds = {"maximum", "maxLength", "maxItems", "enum"} & schema.keys() or schema[
                "type"
            ] == "boolean"
            assert bounds, (path, one["name"])


def test_every_error_is_a_problem_and_every_status_documented():
    for method, path, told in operations():
        for status, answer in told["responses"].items():
            if status.startswith("2"):
                continue
            assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
            assert status in PAGE
        assert told.get("description"), f"{method} {path} says nothing about itself"
