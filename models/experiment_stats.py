"""What an experiment has shown: effects with their intervals, the sample ratio, and what to do next.

Two intervals stand beside each other. The fixed one is right for one look, at a time chosen beforehand. The
always-valid one may be looked at every day: the chance that it ever excludes the truth is at most alpha.

CUPED and the delta method for ratios are tea-tasting's (Deng, Xu, Kohavi and Walker, WSDM 2013; Deng,
Knoblich and Lu, KDD 2018). The always-valid interval is the asymptotic confidence sequence of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
Annals of Statistics 52(6), 2024, theorem 2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upnext.experiments import Experiment

Columns = Mapping[str, NDArray[np.float64]]
"""Name -> one value per unit."""
ALPHA = 0.05
MISMATCH = 0.001
"""p-value of the sample ratio below which the figures are not to be trusted."""
LEAST = 100
"""Units in each variant below which no interval, all of them asymptotic, is believed."""


@dataclass(frozen=True)
class Metric:
    """A mean per unit, or a ratio of two; covariates are the same of the time before the experiment."""

    numer: str
    denom: str | None = None
    before: str | None = None
    denom_before: str | None = None
    more_is_better: bool = True
    matured: str | None = None
    """Column that is 1 for units whose value is final; the others are left out."""


METRICS: Mapping[str, Metric] = {
    "watch_s": Metric("watch_s", before="watch_s_before"),
    "ctr": Metric("clicks", "impressions", "clicks_before", "impressions_before"),
    "retention": Metric("returned", before="days_before", matured="matured"),
    "not_interested_rate": Metric("turned_down", "impressions", more_is_better=False),
}


@dataclass(frozen=True)
class Effect:
    """One metric of one variant beside the control's; differences are in the metric's unit."""

    metric: str
    role: Literal["primary", "guardrail"]
    variant: str
    control_mean: float
    variant_mean: float
    difference: float
    low: float
    high: float
    """Fixed interval."""
    p: float
    always_low: float
    always_high: float
    """Always-valid interval."""
    narrowed: float
    """Share by which CUPED made the intervals narrower; 0 where it could not."""
    units: int

    @property
    def unread(self) -> bool:
        """It has no interval, and not because nobody's value moved: its means differ, or are not known."""
        return not isfinite(self.always_low) and self.control_mean != self.variant_mean

    @property
    def direction(self) -> int:
        """1 when the always-valid interval shows the metric better, -1 worse, 0 neither."""
        if self.units and isfinite(self.always_low) and isfinite(self.always_high):
            sign = int(self.always_low > 0) - int(self.always_high < 0)
            return sign if METRICS[self.metric].more_is_better else -sign
        return 0


@dataclass(frozen=True)
class Verdict:
    """What to do, and why."""

    decision: Literal["ship", "stop", "go on"]
    reason: str


@dataclass(frozen=True)
class Readout:
    """All that is known of one experiment."""

    units: Mapping[str, int]
    """Variant -> units exposed."""
    mismatch_p: float
    """p-value of the chi-square test that units are shared out as the weights say."""
    effects: Sequence[Effect]
    verdict: Verdict


def analyse(experiment: Experiment, variant: NDArray[np.str_], columns: Columns, ended: bool) -> Readout:
    """Read an experiment out.

    variant: str[n], each unit's; columns: those that METRICS names, float64[n]; ended: it was stopped.
    """
    names = [each.name for each in experiment.variants]
    units = {name: int((variant == name).sum()) for name in names}
    mismatch_p = sample_ratio(list(units.values()), [each.weight for each in experiment.variants])
    effects = [
        effect(metric, role, name, experiment, variant, columns)
        for role, metrics in (("primary", experiment.primary), ("guardrail", experiment.guardrails))
        for metric in metrics
        for name in names[1:]
    ]
    return Readout(units, mismatch_p, effects, judge(units, mismatch_p, effects, ended))


def effect(
    metric: str,
    role: Any,
    name: str,
    experiment: Experiment,
    variant: NDArray[np.str_],
    columns: Columns,
) -> Effect:
    """A metric of one variant against the control; alpha is shared among the variants and their metrics."""
    spec = METRICS[metric]
    alike = len(experiment.primary if role == "primary" else experiment.guardrails)
    alpha = ALPHA / alike / (len(experiment.variants) - 1)
    final = columns[spec.matured] > 0 if spec.matured else np.ones(len(variant), bool)
    sides = [
        {key: values[final & (variant == side)] for key, values in columns.items() if key in _needed(spec)}
        for side in (experiment.control.name, name)
    ]
    counts = [len(side[spec.numer]) for side in sides]
    empty = spec.denom is not None and not all(side[spec.denom].sum() for side in sides)
    nan = float("nan")
    if min(counts) < LEAST or empty:
        return Effect(metric, role, name, nan, nan, nan, nan, nan, nan, nan, nan, 0.0, sum(counts))
    if not any(np.ptp(side[spec.numer]) for side in sides):
        control, treated = (
            float(side[spec.numer].sum() / (side[spec.denom].sum() if spec.denom else count))
            for side, count in zip(sides, counts, strict=True)
        )
        return Effect(metric, role, name, control, treated, nan, nan, nan, nan, nan, nan, 0.0, sum(counts))
    result, narrowed = compare(spec, sides[0], sides[1], alpha)
    half = (result.effect_size_ci_upper - result.effect_size_ci_lower) / 2
    half *= always_valid(sum(counts), experiment.expected_users, alpha) / _quantile(1 - alpha / 2)
    return Effect(
        metric,
        role,
        name,
        result.control,
        result.treatment,
        result.effect_size,
        result.effect_size_ci_lower,
        result.effect_size_ci_upper,
        result.pvalue,
        result.effect_size - half,
        result.effect_size + half,
        narrowed,
        sum(counts),
    )


def compare(spec: Metric, control: Columns, treatment: Columns, alpha: float = ALPHA) -> tuple[Any, float]:
    """tea-tasting's result, by CUPED where the covariates vary, and the share by which that narrowed it."""
    from tea_tasting import RatioOfMeans

    sides = aggregates(control), aggregates(treatment)
    told: dict[str, Any] = {"confidence_level": 1 - alpha, "use_t": False}
    plain = RatioOfMeans(spec.numer, spec.denom, **told).analyze_aggregates(*sides)
    if not _usable(spec, control, treatment):
        return plain, 0.0
    cuped = RatioOfMeans(spec.numer, spec.denom, spec.before, spec.denom_before, **told)
    result = cuped.analyze_aggregates(*sides)
    widths = [each.effect_size_ci_upper - each.effect_size_ci_lower for each in (result, plain)]
    return result, 1 - widths[0] / widths[1] if widths[1] else 0.0


def aggregates(columns: Columns) -> Any:
    """Count, means, variances and covariances of columns, as tea-tasting takes them."""
    from tea_tasting.aggr import Aggregates

    names = sorted(columns)
    values = np.stack([columns[name] for name in names])
    spread = np.atleast_2d(np.cov(values))
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    return Aggregates(
        values.shape[1],
        {name: float(mean) for name, mean in zip(names, values.mean(axis=1), strict=True)},
        {name: float(spread[at, at]) for at, name in enumerate(names)},
        {(names[a], names[b]): float(spread[a, b]) for a, b in pairs},
    )


def always_valid(units: int, expected: int, alpha: float = ALPHA) -> float:
    """Half-width of the always-valid interval in standard errors of the estimate, after ``units`` units.

    With n units, sqrt(2 (nρ² + 1) / (nρ²) · log(sqrt(nρ² + 1) / alpha)); it is narrowest beside the fixed one
    at ``expected`` units, by ρ² = (-2 log alpha + log(1 - 2 log alpha)) / expected.
    """
    size = units * (-2 * log(alpha) + log(1 - 2 * log(alpha))) / expected
    return sqrt(2 * (size + 1) / size * log(sqrt(size + 1) / alpha))


def sample_ratio(units: Sequence[int], weights: Sequence[float]) -> float:
    """p-value of the chi-square test that units were shared out by weight; 1 where there are none."""
    from scipy.stats import chisquare

    total = sum(units)
    if not total:
        return 1.0
    shares = np.asarray(weights) / sum(weights)
    return float(chisquare(units, total * shares).pvalue)


def judge(units: Mapping[str, int], mismatch_p: float, effects: Sequence[Effect], ended: bool) -> Verdict:
    """Ship what is better in a primary metric and harms none; stop what harms, or can't be trusted.

    A guardrail that can't be read yet keeps a variant from being shipped: it is not known to be no worse.
    """
    if mismatch_p < MISMATCH:
        shared = ", ".join(f"{name} {count}" for name, count in units.items())
        return Verdict(
            "stop",
            f"units are not shared out as the weights say ({shared}; p = {mismatch_p:.2g}): find out why",
        )
    few = min(units.values())
    if few < LEAST:
        return Verdict(
            "stop" if ended else "go on", f"a variant has {few} units, {LEAST} are needed to judge"
        )
    worse = [each for each in effects if each.direction < 0]
    better = [each for each in effects if each.direction > 0 and each.role == "primary"]
    harmed = {each.variant for each in worse}
    good = [each for each in better if each.variant not in harmed]
    if good:
        guardrails = {each.variant: each for each in effects if each.role == "guardrail" and each.unread}
        return _of_better(good, guardrails, ended)
    if worse and harmed >= {each.variant for each in effects}:
        return Verdict("stop", f"{_told(worse[0])} is worse")
    if ended:
        return Verdict("stop", "it ended without an effect on a primary metric")
    waiting = next(each for each in effects if each.role == "primary" and each.variant not in harmed)
    return Verdict("go on", _nothing_shown(waiting))


def _of_better(better: Sequence[Effect], unread: Mapping[str, Effect], ended: bool) -> Verdict:
    """``unread``: by variant, a guardrail that can't be read yet."""
    for each in better:
        if each.variant not in unread:
            return Verdict("ship", f"{_told(each)} is better, and nothing is worse")
    first = better[0]
    reason = f"{_told(first)} is better, but {_unread(unread[first.variant])}"
    return Verdict("stop" if ended else "go on", reason)


def _told(each: Effect) -> str:
    return f"{each.metric} of {each.variant} ({each.always_low:+.4g} to {each.always_high:+.4g})"


def _nothing_shown(each: Effect) -> str:
    if each.unread:
        return _unread(each)
    if not isfinite(each.always_low):
        return f"{each.metric} of {each.variant} has not moved"
    return f"the always-valid interval of {_told(each)} holds 0"


def _unread(each: Effect) -> str:
    return f"{each.metric} of {each.variant} has too few units yet"


def _needed(spec: Metric) -> set[str]:
    named = (spec.numer, spec.denom, spec.before, spec.denom_before)
    return {name for name in named if name is not None}


def _usable(spec: Metric, control: Columns, treatment: Columns) -> bool:
    """Whether the covariate says anything, on both sides."""
    if spec.before is None:
        return False
    counted = spec.denom_before is None or all(side[spec.denom_before].sum() for side in (control, treatment))
    return counted and bool(np.ptp(np.concatenate([control[spec.before], treatment[spec.before]])))


def _quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))
