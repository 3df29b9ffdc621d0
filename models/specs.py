"""What is declared of a feature, wherever it is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

LOG_COUNT = "ln(1+count)"
LOG_SECONDS = "ln(1+s)"
LOG_MINUTES = "ln(1+min)"
LOG_HOURS = "ln(1+h)"
SHARE = "share"
COSINE = "cosine"
FLAG = "0 or 1"
COMPONENT = "component"
"""Unit of one number of a vector of length 1; a vector of zeros says that nothing is known."""


@dataclass(frozen=True)
class FeatureSpec:
    """One feature; ``default`` stands in where an entity has no value at all.

    ``dtype`` is how it is stored; what is computed per request is float32 throughout.
    """

    name: str
    unit: str
    description: str
    default: float = 0.0
    dtype: str = "float16"


def names_of(specs: Sequence[FeatureSpec]) -> tuple[str, ...]:
    return tuple(spec.name for spec in specs)


def vector(name: str, width: int, description: str) -> tuple[FeatureSpec, ...]:
    """The components ``<name>_0`` … of a vector of length 1."""
    return tuple(
        FeatureSpec(f"{name}_{place}", COMPONENT, f"{description}, component {place}")
        for place in range(width)
    )


def components(names: Sequence[str], name: str) -> list[int]:
    """Places of a vector's components among feature names, in their order; empty where it is not there."""
    place = {each: at for at, each in enumerate(names)}
    found: list[int] = []
    while (component := f"{name}_{len(found)}") in place:
        found.append(place[component])
    return found
