"""Adding and removing, held against exact search over what is left."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.index import ExactIndex, FaissIndex
from models.live_index import LiveIndex
from upnext.errors import CorruptData, MissingData


def vectors_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def expected(
    vectors: np.ndarray, left: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    scores = np.where(left, queries @ vectors.T, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    rows, found = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf)
    rows[:, : order.shape[1]], found[:, : order.shape[1]] = np.where(best > -np.inf, order, -1), best
    return rows, found


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 20), st.sets(st.integers(0, 59)), st.integers(1, 70))
def test_it_finds_what_exact_search_would(n: int, new: int, gone: set[int], k: int) -> None:
    everything, queries = vectors_of(n + new), vectors_of(3, seed=1)
    index = LiveIndex.of(ExactIndex.build(everything[:n]))
    if new:
        index = index.with_added(everything[n:])
    left = np.ones(n + new, np.bool_)
    left[[row for row in gone if row < n + new]] = False
    index = index.without(np.flatnonzero(~left))
    rows, scores = index.search(queries, k)
    assert (rows.shape, len(index)) == ((3, k), n + new)
    true_rows, true_scores = expected(everything, left, queries, k)
    np.testing.assert_array_equal(rows, true_rows)
    np.testing.assert_allclose(scores, true_scores, rtol=1e-5)


@pytest.mark.parametrize("factory", ["HNSW32", "IVF16,SQ8", "IVF16_HNSW16,PQ4x4fsr,Refine(SQ8)"])
def test_kinds_that_cannot_remove_still_forget(factory: str) -> None:
    vectors, queries = vectors_of(2000), vectors_of(20, seed=2)
    exact, index = ExactIndex.build(vectors), LiveIndex.of(FaissIndex.build(vectors, factory))
    best = exact.search(queries, 50)[0]
    index = index.without(np.unique(best))
    rows, _ = index.search(queries, 50)
    assert not np.isin(rows, best).any()
    assert (rows >= 0).all()
    left = np.ones(2000, np.bool_)
    left[np.unique(best)] = False
    true, _ = expected(vectors, left, queries, 50)
    assert np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(true, rows, strict=True)]) > 0.85
    assert index.with_added(9 * queries).search(queries, 1)[0].min() >= 2000  # no other is as long


def test_a_change_is_a_new_index(tmp_path: Path) -> None:
    before = LiveIndex.of(ExactIndex.build(vectors_of(5)))
    after = before.with_added(vectors_of(2, seed=3)).without(np.array([1, 6]))
    assert (len(before), len(after)) == (5, 7)
    assert sorted(before.search(vectors_of(1), 9)[0][0].tolist()) == [-1] * 4 + [0, 1, 2, 3, 4]
    assert sorted(after.search(vectors_of(1), 9)[0][0].tolist()) == [-1] * 4 + [0, 2, 3, 4, 5]
    after.save(tmp_path / "index")
    loaded = LiveIndex.load(tmp_path / "index")
    for ours, theirs in zip(loaded.search(vectors_of(4), 6), after.search(vectors_of(4), 6), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    index = LiveIndex.of(ExactIndex.build(vectors_of(5)))
    with pytest.raises(IndexError):
        index.without(np.array([5]))
    with pytest.raises(IndexError, match="row -1"):
        index.without(np.array([-1]))
    with pytest.raises(ValueError, match="float64"):
        index.with_added(np.zeros((1, 8)))
    with pytest.raises(MissingData):
        LiveIndex.load(tmp_path)
    index.save(tmp_path)
    np.save(tmp_path / "removed.npy", np.zeros(9, np.bool_))
    with pytest.raises(CorruptData, match="9 rows"):
        LiveIndex.load(tmp_path)
