"""The paired bootstrap: exact where nothing varies, close to theory where it does, the same for a seed."""

import numpy as np
import pytest

from models.bootstrap import compare, paired_p_value
from upnext.errors import EmptyData


def test_a_constant_lift_has_no_width() -> None:
    base = np.random.default_rng(1).exponential(10, 200)
    result = compare(base * 1.25, base, resamples=200)
    assert result.lift == pytest.approx(0.25)
    assert result.lift_interval == pytest.approx((0.25, 0.25))
    assert result.difference == pytest.approx(base.mean() / 4)
    assert result.users == 200


def test_the_interval_is_that_of_the_normal_law_for_many_users() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(5, 3, 4_000)
    difference = rng.normal(0.1, 1, 4_000)
    result = compare(base + difference, base, resamples=2_000)
    half = 1.96 / np.sqrt(4_000)
    low, high = result.difference_interval
    assert low == pytest.approx(difference.mean() - half, abs=0.005)
    assert high == pytest.approx(difference.mean() + half, abs=0.005)


def test_users_without_a_figure_are_left_out_of_both() -> None:
    result = compare([1, np.nan, 3, 4], [1, 9, np.nan, 2], resamples=10)
    assert (result.mean, result.baseline, result.users) == (2.5, 1.5, 2)


def test_weighted_means_and_their_interval() -> None:
    result = compare([1, 4, np.nan, 9], [1, 1, 1, 1], weights=[3, 1, 5, 0], resamples=50)
    assert (result.mean, result.baseline, result.users) == (7 / 4, 1.0, 2)
    # Rows of a user in one place, or a row each in as many: the mean is the same, the interval is not.
    rng = np.random.default_rng(4)
    values, rows = rng.normal(5, 1, 400), rng.integers(1, 30, 400)
    weighted = compare(values, np.zeros(400), weights=rows)
    assert weighted.mean == pytest.approx(np.repeat(values, rows).mean())
    low, high = weighted.difference_interval
    half = 1.96 * np.sqrt((rows**2 * (values - weighted.mean) ** 2).sum()) / rows.sum()
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_a_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).exponential(size=(2, 50))
    assert compare(*values, seed=5) == compare(*values, seed=5)
    assert compare(*values, seed=5) != compare(*values, seed=6)


def test_a_baseline_of_zero_has_no_lift() -> None:
    result = compare([1.0, 2.0], [0.0, 0.0], resamples=10)
    assert np.isnan(result.lift)
    assert result.difference == 1.5


def test_no_users_is_an_error() -> None:
    with pytest.raises(EmptyData, match="no user"):
        compare([np.nan], [1.0])


def test_p_value_of_signs_worked_out_by_hand() -> None:
    # Of the 2^3 ways to give 1, 2 and 3 a sign, one reaches their mean and one its opposite.
    assert paired_p_value([2, 3, 4, np.nan], [1, 1, 1, 1]) == pytest.approx(2 / 8)
    assert paired_p_value([1, 1], [1, 1]) == 1.0


def test_p_value_of_a_clear_difference_is_small_and_of_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=300)
    assert paired_p_value(noise + 1, np.zeros(300)) < 0.001
    assert paired_p_value(noise - noise.mean(), np.zeros(300)) > 0.9
