"""Every measure against a hand-worked example, and against brute force where the fast way is clever."""

from itertools import combinations, product
from math import log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import metrics
from models.metrics import Truth

# User 0 wants videos 3 (gain 3) and 5 (gain 1), user 1 wants video 0 (gain 2), user 2 nothing.
TRUTH = Truth.of([0, 0, 1, 0, 2], [5, 3, 0, 3, 4], [1, 3, 2, 2, 0], users=3, videos=6)
RANKED = np.array([[5, 1, 3], [2, 3, -1], [0, 1, 2]], np.int32)


def test_truth_keeps_the_best_gain_and_drops_zeros() -> None:
    assert TRUTH.gains_of(RANKED).tolist() == [[1, 0, 3], [0, 0, 0], [0, 0, 0]]
    assert TRUTH.ideal(2).tolist() == [[3, 1], [2, 0], [0, 0]]
    assert TRUTH.counts().tolist() == [2, 1, 0]


def test_an_empty_place_never_counts_for_a_neighbouring_user() -> None:
    truth = Truth.of([0], [5], [1], users=2, videos=6)
    assert truth.gains_of(np.array([[0], [-1]])).tolist() == [[0], [0]]


def test_a_truth_without_gains() -> None:
    nothing = Truth.of([], [], [], users=2, videos=3)
    assert np.isnan(metrics.ndcg(np.zeros((2, 1), int), nothing, 1)).all()


def test_ndcg_by_hand() -> None:
    expected = (1 / log2(2) + 3 / log2(4)) / (3 / log2(2) + 1 / log2(3))
    np.testing.assert_allclose(metrics.ndcg(RANKED, TRUTH, 3), [expected, 0, np.nan])
    np.testing.assert_allclose(metrics.ndcg(RANKED, TRUTH, 1), [1 / 3, 0, np.nan])


def test_a_short_list_is_held_against_the_full_ideal() -> None:
    expected = 3 / (3 + 1 / log2(3))
    assert metrics.ndcg(np.array([[3], [0], [0]]), TRUTH, 10)[0] == pytest.approx(expected)


def test_recall_and_average_precision_by_hand() -> None:
    np.testing.assert_allclose(metrics.recall(RANKED, TRUTH, 2), [0.5, 0, np.nan])
    np.testing.assert_allclose(metrics.average_precision(RANKED, TRUTH, 3), [(1 / 1 + 2 / 3) / 2, 0, np.nan])
    np.testing.assert_allclose(metrics.average_precision(RANKED, TRUTH, 1), [1, 0, np.nan])


def test_watch_time_is_per_filled_place() -> None:
    np.testing.assert_allclose(metrics.watch_time_per_slot(RANKED, TRUTH, 3), [4 / 3, 0, 0])
    np.testing.assert_allclose(
        metrics.watch_time_per_slot(np.array([[5, 3], [0, -1], [-1, -1]]), TRUTH, 2), [2, 2, np.nan]
    )


def test_coverage_and_gini_by_hand() -> None:
    assert metrics.coverage(RANKED, 6) == pytest.approx(5 / 6)
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4) == 0
    assert metrics.gini(np.array([[1], [1]]), 4) == 0.75  # (n - 1) / n: one takes all
    assert metrics.gini(np.array([[0], [1], [1], [1]]), 2) == 0.25
    assert np.isnan(metrics.gini(np.array([[-1]]), 2))


def test_wanting_only_the_new_videos() -> None:
    new = np.array([True, False, False, False, False, True])
    only = TRUTH.among(new)
    assert only.counts().tolist() == [1, 1, 0]
    np.testing.assert_allclose(metrics.recall(RANKED, only, 1), [1, 0, np.nan])


def test_hit_rate_by_hand() -> None:
    np.testing.assert_allclose(metrics.hit_rate(RANKED, TRUTH, 2), [1, 0, np.nan])
    np.testing.assert_allclose(metrics.hit_rate(RANKED[:, ::-1], TRUTH, 1), [1, 0, np.nan])


def test_concentration_on_creators_by_hand() -> None:
    creator = np.array([0, 0, 1, -1])
    assert metrics.creator_gini(np.array([[0, 1], [1, -1]]), creator) == 0.5  # one of two takes all
    assert metrics.creator_gini(np.array([[0], [2], [3]]), creator) == 0  # the unknown one is left out
    assert np.isnan(metrics.creator_gini(np.array([[0]]), np.array([-1])))


def test_novelty_by_hand() -> None:
    engagements = np.array([4, 1, 0])  # of 8 users: 1 bit, 3 bits, and 4 for half a user
    shown = np.array([[0, 1], [2, -1], [-1, -1]])
    np.testing.assert_allclose(metrics.novelty(shown, engagements, 8), [2, 4, np.nan])


def brute_auc(label: list[int], score: list[float]) -> float:
    pairs = [
        (s > t) + (s == t) / 2
        for (a, s), (b, t) in product(zip(label, score, strict=True), repeat=2)
        if a == 1 and b == 0
    ]
    return sum(pairs) / len(pairs) if pairs else float("nan")


rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30)


@given(rows)
def test_auc_and_gauc_equal_brute_force(rows: list[tuple[int, int, int]]) -> None:
    label, score, group = (list(column) for column in zip(*rows, strict=True))
    assert metrics.auc(label, score) == pytest.approx(brute_auc(label, score), nan_ok=True)
    weighted, weight = 0.0, 0
    for key in set(group):
        inside = [row for row in rows if row[2] == key]
        value = brute_auc([row[0] for row in inside], [row[1] for row in inside])
        if not np.isnan(value):
            weighted, weight = weighted + value * len(inside), weight + len(inside)
    expected = weighted / weight if weight else float("nan")
    assert metrics.gauc(label, score, group) == pytest.approx(expected, nan_ok=True)


def test_auc_of_nothing_is_nan() -> None:
    assert np.isnan(metrics.auc([], []))


def test_log_loss_by_hand_and_at_the_edges() -> None:
    assert metrics.log_loss([1, 0], [0.8, 0.4]) == pytest.approx(-(log(0.8) + log(0.6)) / 2)
    assert np.isfinite(metrics.log_loss([1], [0]))


def test_ece_by_hand() -> None:
    label, probability = [1, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]
    # two bins: mean label .5 and 1 against mean probability .15 and .85
    assert metrics.ece(label, probability, bins=2) == pytest.approx((0.35 + 0.15) / 2)
    assert metrics.ece([0, 1], [0.5, 0.5], bins=1) == 0


def test_mae_by_hand() -> None:
    assert metrics.mae([1, 2, 6], [2, 2, 2]) == pytest.approx(5 / 3)


@settings(deadline=None)  # the first call imports SciPy
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_xauc_equals_brute_force(rows: list[tuple[int, int]]) -> None:
    target, predicted = (list(column) for column in zip(*rows, strict=True))
    pairs = [
        ((a > b) == (p > q) and p != q) + (p == q) / 2 for (a, p), (b, q) in combinations(rows, 2) if a != b
    ]
    expected = sum(pairs) / len(pairs) if pairs else float("nan")
    assert metrics.xauc(target, predicted) == pytest.approx(expected, nan_ok=True)
