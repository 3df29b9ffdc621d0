"""The figures of a readout against hand-worked answers, and its verdicts."""

from datetime import UTC, datetime
from math import log, sqrt

import numpy as np
import pytest

from models import experiment_stats
from models.experiment_stats import METRICS, Effect, always_valid, analyse, compare, judge, sample_ratio
from upnext.experiments import parse

START = datetime(2026, 6, 10, tzinfo=UTC)


def experiment(**changes):
    variants = [{"name": "control", "weight": 0.5}, {"name": "treatment", "weight": 0.5}]
    return parse({"name": "one", "layer": "l", "start": START, "variants": variants} | changes)


def drawn(n=4_000, lift=0.0, turned_down=0.0, seed=0):
    """Units of two variants, whose watch time follows what they watched before."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(2.0, 100.0, n)
    treated = rng.random(n) < 0.5
    impressions = rng.poisson(30, n) + 1.0
    columns = {
        "watch_s": taste * rng.gamma(9.0, 1 / 9.0, n) * (1 + lift * treated),
        "watch_s_before": taste * rng.gamma(9.0, 1 / 9.0, n),
        "clicks": rng.binomial(impressions.astype(int), 0.2).astype(float),
        "clicks_before": np.zeros(n),
        "impressions": impressions,
        "impressions_before": np.zeros(n),
        "turned_down": rng.binomial(impressions.astype(int), 0.05 + turned_down * treated).astype(float),
        "returned": (rng.random(n) < 0.6).astype(float),
        "days_before": np.zeros(n),
        "matured": np.ones(n),
    }
    return np.where(treated, "treatment", "control"), columns


def test_the_always_valid_width_by_hand():
    """At the expected size nρ² = 5.99146 + log(6.99146) = 7.93615, so the root of 9.2125 is 3.0352."""
    assert always_valid(10_000, 10_000) == pytest.approx(3.0352, abs=1e-4)
    assert always_valid(10_000, 10_000, 0.05) / 1.95996 == pytest.approx(1.5486, abs=1e-4)


def test_the_always_valid_interval_is_near_its_narrowest_at_the_expected_size():
    """In standard errors of 1/√n, over the choice of ρ²: the rule is that of the paper's equation (63)."""
    alpha, n = 0.05, 5_000

    def width(expected):
        return always_valid(n, expected, alpha)

    assert all(width(5_000) < width(other) for other in (500, 2_000, 12_000, 50_000))
    assert min(width(each) for each in range(4_000, 6_000, 50)) == pytest.approx(width(5_000), rel=1e-3)
    size = 3.0
    rho2 = (-2 * log(alpha) + log(1 - 2 * log(alpha))) / n
    by_hand = sqrt(2 * (size + 1) / size * log(sqrt(size + 1) / alpha))
    assert always_valid(round(size / rho2), n, alpha) == pytest.approx(by_hand, rel=1e-3)


def test_a_ratio_by_the_delta_method_by_hand():
    """Clicks over impressions: var = (s²c - 2 R s_ci + R² s²i) / (n m²), R = 1/2 beside 1/4."""
    control = {"clicks": np.asarray([1.0, 2, 3]), "impressions": np.asarray([2.0, 4, 6])}
    treatment = {"clicks": np.asarray([1.0, 0, 2]), "impressions": np.asarray([4.0, 4, 4])}
    result, narrowed = compare(
        METRICS["not_interested_rate"].__class__("clicks", "impressions"), control, treatment
    )
    assert (result.control, result.treatment, narrowed) == (0.5, 0.25, 0.0)
    # The control's clicks are half its impressions exactly: no variance. The treatment's: s²c = 1, m = 4.
    half = 1.959964 * sqrt(1 / (3 * 16))
    assert result.effect_size_ci_upper - result.effect_size == pytest.approx(half, rel=1e-5)


def test_cuped_narrows_by_the_covariates_correlation():
    """The variance falls by the square of the correlation (Deng et al. 2013, equation 5)."""
    variant, columns = drawn()
    named = {name: columns[name] for name in ("watch_s", "watch_s_before")}
    control, treatment = (
        {n: v[variant == side] for n, v in named.items()} for side in ("control", "treatment")
    )
    _, narrowed = compare(METRICS["watch_s"], control, treatment)
    correlation = np.corrcoef(columns["watch_s"], columns["watch_s_before"])[0, 1]
    assert narrowed == pytest.approx(1 - sqrt(1 - correlation**2), abs=0.01)
    assert narrowed > 0.3


def test_the_sample_ratio_by_hand():
    """Of 1000, 440 and 560 where 500 each are due: chi-square 14.4, one degree of freedom."""
    assert sample_ratio([440, 560], [0.5, 0.5]) == pytest.approx(0.000148, abs=1e-6)
    assert sample_ratio([500, 300, 200], [0.5, 0.3, 0.2]) == 1.0
    assert sample_ratio([0, 0], [0.5, 0.5]) == 1.0


def effects_of(readout):
    return {(each.metric, each.role): each for each in readout.effects}


def test_a_true_effect_is_shipped():
    readout = analyse(experiment(expected_users=4_000), *drawn(lift=0.1), ended=False)
    watch = effects_of(readout)["watch_s", "primary"]
    assert watch.difference / watch.control_mean == pytest.approx(0.1, abs=0.03)
    assert watch.always_low < watch.low < watch.difference < watch.high < watch.always_high
    assert readout.verdict.decision == "ship"
    assert "watch_s of treatment" in readout.verdict.reason and sum(readout.units.values()) == 4_000


def test_no_effect_goes_on_until_it_is_ended():
    for ended, decision in ((False, "go on"), (True, "stop")):
        assert analyse(experiment(), *drawn(), ended=ended).verdict.decision == decision


@pytest.mark.parametrize(("lift", "turned_down"), [(-0.2, 0.0), (0.2, 0.03)])
def test_harm_stops_whether_of_a_primary_metric_or_a_guardrail(lift, turned_down):
    verdict = analyse(experiment(), *drawn(lift=lift, turned_down=turned_down), ended=False).verdict
    assert verdict.decision == "stop" and "is worse" in verdict.reason


def test_units_shared_out_wrongly_stop_everything():
    variant, columns = drawn(lift=0.3)
    kept = (variant == "control") | (np.arange(len(variant)) % 5 > 0)
    readout = analyse(experiment(), variant[kept], {n: v[kept] for n, v in columns.items()}, ended=False)
    assert readout.mismatch_p < experiment_stats.MISMATCH
    assert (
        readout.verdict.decision == "stop" and "not shared out as the weights say" in readout.verdict.reason
    )


def test_few_units_are_not_judged():
    readout = analyse(experiment(), *drawn(n=120, lift=5.0), ended=False)
    assert readout.verdict.decision == "go on" and "100 are needed" in readout.verdict.reason


@pytest.mark.parametrize("n", [0, 1, 3])
def test_almost_nobody(n):
    variant, columns = drawn(n=n) if n else (np.empty(0, np.str_), {k: np.empty(0) for k in drawn(3)[1]})
    readout = analyse(experiment(), variant, columns, ended=False)
    assert readout.verdict.decision == "go on"


def test_units_whose_day_has_not_come_are_left_out_of_retention():
    variant, columns = drawn()
    columns["matured"][:3_000] = 0
    columns["returned"][:3_000] = 0
    retention = effects_of(analyse(experiment(), variant, columns, ended=False))["retention", "guardrail"]
    assert retention.units == 1_000 and retention.control_mean == pytest.approx(0.6, abs=0.08)


def test_a_metric_of_few_final_units_ships_nothing():
    """300 units are exposed, and five of each side have a value: 0 of 5 against 4 of 5 is no evidence."""
    variant, columns = drawn(n=300)
    columns["matured"][:] = columns["returned"][:] = 0
    for side, returned in (("control", 0), ("treatment", 4)):
        five = np.flatnonzero(variant == side)[:5]
        columns["matured"][five] = 1
        columns["returned"][five[:returned]] = 1
    asked = experiment(primary=["retention"], guardrails=["ctr"], expected_users=100)
    readout = analyse(asked, variant, columns, ended=False)
    retention = effects_of(readout)["retention", "primary"]
    assert retention.units == 10 and np.isnan(retention.always_low) and retention.direction == 0
    assert readout.verdict.decision == "go on"
    assert readout.verdict.reason == "retention of treatment has too few units yet"


@pytest.mark.parametrize(("ended", "decision"), [(False, "go on"), (True, "stop")])
def test_a_guardrail_that_cannot_be_read_yet_keeps_from_shipping(ended, decision):
    variant, columns = drawn(lift=0.1)
    columns["matured"][99:] = 0
    verdict = analyse(experiment(expected_users=4_000), variant, columns, ended).verdict
    assert verdict.decision == decision
    assert "watch_s of treatment" in verdict.reason
    assert verdict.reason.endswith("is better, but retention of treatment has too few units yet")


def test_a_guardrail_that_nobody_moved_lets_ship_unless_the_sides_differ():
    variant, columns = drawn(lift=0.1)
    asked = experiment(expected_users=4_000, guardrails=["retention"])
    columns["returned"][:] = 0
    readout = analyse(asked, variant, columns, ended=False)
    assert readout.verdict.decision == "ship"
    assert effects_of(readout)["retention", "guardrail"].control_mean == 0
    columns["returned"][variant == "control"] = 1
    assert analyse(asked, variant, columns, ended=False).verdict.decision == "go on"
    still = experiment(primary=["retention"], guardrails=[])
    columns["returned"][:] = 0
    assert (
        analyse(still, variant, columns, ended=False).verdict.reason == "retention of treatment has not moved"
    )


def test_alpha_is_shared_among_variants_and_metrics():
    one = analyse(experiment(), *drawn(), ended=False).effects[0]
    variants = [{"name": name, "weight": 1 / 3} for name in ("control", "treatment", "third")]
    three = analyse(experiment(variants=variants), *drawn(), ended=False).effects[0]
    assert three.high - three.low > one.high - one.low


def effect(variant, low, high, metric="watch_s", role="primary"):
    return Effect(metric, role, variant, 1, 1, 0, low, high, 1, low, high, 0, 1_000)


def test_one_variants_harm_does_not_keep_another_from_being_shipped():
    units = {"control": 500, "a": 500, "b": 500}
    good = judge(units, 1.0, [effect("a", -2, -1), effect("b", 1, 2)], ended=False)
    assert good.decision == "ship" and "of b" in good.reason
    open_ = judge(units, 1.0, [effect("a", -2, -1), effect("b", -1, 2)], ended=False)
    assert open_.decision == "go on" and "of b" in open_.reason


def test_a_metric_that_nobody_moved_and_one_that_only_one_side_did():
    variant, columns = drawn()
    still = analyse(experiment(), variant, columns | {"returned": np.zeros(len(variant))}, ended=False)
    assert np.isnan(effects_of(still)["retention", "guardrail"].difference)
    columns["turned_down"][variant == "control"] = 0
    rate = effects_of(analyse(experiment(), variant, columns, ended=False))[
        "not_interested_rate", "guardrail"
    ]
    assert rate.control_mean == 0 and rate.direction < 0
