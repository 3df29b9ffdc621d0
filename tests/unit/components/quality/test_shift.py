"""The population stability index, against a hand-worked answer and on windows known to be alike or not."""

import math

import numpy as np
import pytest

from components.quality.shift import psi


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_it_is_the_sum_over_bins_worked_by_hand() -> None:
    # Bins: below 0, 0, between, 1, above, missing; half a row is added to each of them.
    before, now = column(0, 0, 0, 1), column(0, 1, 1, 1)
    q, p = [3.5, 1.5], [1.5, 3.5]
    total = 4 + 0.5 * 6
    by_hand = sum((b - a) / total * math.log(b / a) for a, b in zip(q, p, strict=True))
    assert psi(before, now) == pytest.approx([by_hand])


def test_windows_of_one_distribution_have_none_and_shifted_ones_much() -> None:
    rng = np.random.default_rng(0)
    before, same = rng.normal(size=(4_000, 2)), rng.normal(size=(4_000, 2))
    moved = np.add(same, [0.0, 1.0])
    assert psi(before, same).max() < 0.02
    assert psi(before, moved)[0] < 0.02
    assert psi(before, moved)[1] > 0.25


def test_a_constant_that_changes_and_values_that_go_missing_are_seen() -> None:
    constant = np.full((100, 1), 5.0)
    assert psi(constant, constant) == pytest.approx([0.0])
    assert psi(constant, np.zeros((100, 1)))[0] > 1
    assert psi(constant, np.full((100, 1), np.nan))[0] > 1
    assert psi(np.full((100, 1), np.nan), np.full((100, 1), np.nan)) == pytest.approx([0.0])


def test_windows_may_differ_in_length() -> None:
    rng = np.random.default_rng(1)
    assert psi(rng.random((50_000, 1)), rng.random((1_000, 1)))[0] < 0.05
