"""Figures of several policies with their intervals, each beside a baseline on the same users."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import compare, paired_p_value
from upnext.errors import EmptyData

Floats = NDArray[np.float64]
BASELINE = "popularity"


@dataclass(frozen=True)
class Figure:
    """One measure of one policy, mean over users, with 95 % intervals of a bootstrap over users."""

    measure: str
    policy: str
    value: float
    low: float
    high: float
    users: int
    lift: float | None = None
    """Over the baseline: ratio of the means - 1."""
    lift_low: float | None = None
    lift_high: float | None = None
    p: float | None = None
    """Of a paired permutation test of the difference to the baseline."""


@dataclass
class Report:
    """What a protocol found. facts: single numbers that have no interval, by name."""

    protocol: str
    source: str
    figures: list[Figure] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        measure: str,
        values: Mapping[str, Floats],
        baseline: str = BASELINE,
        weights: NDArray[np.number] | None = None,
    ) -> None:
        """A measure of several policies, float64[U] each, NaN where a user has none.

        weights: number[U], how much each user counts; all alike by default.
        """
        for policy, mine in values.items():
            rival = values.get(baseline) if policy != baseline else None
            try:
                self.figures.append(figure(measure, policy, mine, rival, weights))
            except EmptyData:
                self.notes.append(f"{measure} of {policy}: nobody has a figure")

    def find(self, measure: str, policy: str) -> Figure | None:
        """The figure of that name; None where it could not be had."""
        return next((each for each in self.figures if (each.measure, each.policy) == (measure, policy)), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no word for what is not a number."""
        figures = [
            {key: None if isinstance(value, float) and isnan(value) else value for key, value in row.items()}
            for row in map(asdict, self.figures)
        ]
        facts = {name: value for name, value in self.facts.items() if not isnan(value)}
        return {
            "protocol": self.protocol,
            "source": self.source,
            "figures": figures,
            "facts": facts,
            "notes": self.notes,
        }

    def markdown(self) -> str:
        """A table for people: a line for each measure and policy."""
        lines = ["| measure | policy | value (95 %) | over the baseline (95 %) | p |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for each in self.figures:
            value = f"{each.value:.4g} ({each.low:.4g} to {each.high:.4g})"
            lines.append(f"| {each.measure} | {each.policy} | {value} | {_lift(each)} |")
        lines += [f"| {name} | | {value:.4g} | | |" for name, value in self.facts.items()]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])


def figure(
    measure: str,
    policy: str,
    values: Floats,
    rival: Floats | None,
    weights: NDArray[np.number] | None = None,
) -> Figure:
    """A figure with the interval of its mean and, beside a rival, of its lift."""
    own = compare(values, np.zeros_like(values), weights=weights)
    interval = own.difference_interval
    if rival is None:
        return Figure(measure, policy, own.mean, *interval, own.users)
    each = compare(values, rival, weights=weights)
    scale = 1.0 if weights is None else weights
    p = paired_p_value(values * scale, rival * scale)
    return Figure(measure, policy, own.mean, *interval, own.users, each.lift, *each.lift_interval, p)


def _lift(each: Figure) -> str:
    """Two cells of the table: the lift and its p."""
    if each.p is None:
        return " | "
    if each.lift is None or each.lift_low is None or each.lift_high is None or isnan(each.lift_low):
        return f" | {each.p:.2g}"
    return f"{each.lift:+.1%} ({each.lift_low:+.1%} to {each.lift_high:+.1%}) | {each.p:.2g}"
