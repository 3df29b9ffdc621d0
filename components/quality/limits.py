"""Bounds that are declared elsewhere: those of a contract's columns, and those of a feature's unit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from feature_repo.specs import COMPONENT, LOG_COUNT, LOG_SECONDS, SHARE, FeatureSpec

HALF = float(np.finfo(np.float16).max)
"""Largest number that the packed store holds in half precision."""


@dataclass(frozen=True)
class Range:
    """Both ends belong to it."""

    low: float
    high: float


UNITS = {
    SHARE: Range(0.0, 1.0),
    LOG_COUNT: Range(0.0, 25.0),  # e^25: more events than a platform has in a month
    LOG_SECONDS: Range(0.0, 25.0),
    "ln(1+h)": Range(0.0, 15.0),  # e^15 hours: 370 years
    "ln(1+d)": Range(0.0, 12.0),
    "nat": Range(0.0, 25.0),
    COMPONENT: Range(-1.0, 1.0),
}
"""Range of a feature by its unit; any other unit gets what half precision holds."""


def range_of(feature: FeatureSpec | None) -> Range:
    """Range of a declared feature, widened to its default; of any other, what half precision holds."""
    if feature is None:
        return Range(-HALF, HALF)
    unit = UNITS.get(feature.unit, Range(-HALF, HALF))
    return Range(min(unit.low, feature.default), max(unit.high, feature.default))


@dataclass(frozen=True)
class Column:
    """What a contract says of one column; None where it says nothing."""

    low: float | None = None
    high: float | None = None
    shortest: int | None = None
    longest: int | None = None
    values: tuple[str, ...] | None = None


def contract_columns(model: type[BaseModel]) -> dict[str, Column]:
    """A contract's columns with their bounds, read off the model's own schema."""
    schema = model.model_json_schema()
    named = schema.get("$defs", {})
    return {name: _column(entry, named) for name, entry in schema["properties"].items()}


def _column(entry: dict[str, Any], named: dict[str, Any]) -> Column:
    """One property of a JSON schema; of alternatives, the one that is not null."""
    options = [each for each in entry.get("anyOf", [entry]) if each.get("type") != "null"]
    found = options[0]
    if "$ref" in found:
        found = named[found["$ref"].rsplit("/", 1)[1]]
    return Column(
        low=found.get("minimum", found.get("exclusiveMinimum")),
        high=found.get("maximum"),
        shortest=found.get("minLength"),
        longest=found.get("maxLength"),
        values=tuple(found["enum"]) if "enum" in found else None,
    )
