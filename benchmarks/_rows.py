"""A figure as it is written to ``--json``."""

from typing import Any

Row = dict[str, Any]


def row(name: str, value: float, unit: str, goal: float | None = None, holds: bool = True) -> Row:
    """``goal`` is a bound: whether from below or above, ``holds`` knows; without one it always holds."""
    return {"name": name, "value": float(value), "unit": unit, "goal": goal, "holds": bool(holds)}
