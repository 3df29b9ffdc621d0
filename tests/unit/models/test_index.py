"""Exact search against a sort, FAISS against exact search, both through saving and loading."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.index import (
    FLAT_BELOW,
    RECALL_AT,
    SQ8_BELOW,
    ExactIndex,
    FaissIndex,
    build_index,
    factory_for,
    load_index,
    recall_against,
)
from upnext.errors import CorruptData, EmptyData, MissingData

FLOORS = {
    "Flat": 1.0,
    "HNSW32,SQfp16": 0.88,
    "IVF64,SQ8": 0.97,
    "IVF32_HNSW32,PQ8x4fsr,Refine(SQ8)": 0.9,
}
"""Least recall by factory string, on clustered vectors: of the 500 best when built, of 100 afterwards."""


def clustered(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    vectors = centres[rng.integers(0, 20, n)] + rng.normal(size=(n, d)) / 2
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


numbers = st.integers(-3, 3).map(float)


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=numbers),
    arrays(np.float32, st.tuples(st.integers(0, 4), st.just(3)), elements=numbers),
    st.integers(1, 15),
)
def test_exact_equals_a_sort(vectors: np.ndarray, queries: np.ndarray, k: int) -> None:
    rows, scores = ExactIndex.build(vectors).search(queries, k)
    assert rows.shape == scores.shape == (len(queries), k)
    assert (rows.dtype, scores.dtype) == (np.int32, np.float32)
    for at, query in enumerate(queries):
        product = vectors @ query
        best = sorted(range(len(vectors)), key=lambda row: (-product[row], row))[:k]
        np.testing.assert_array_equal(scores[at, : len(best)], product[best])
        assert rows[at].tolist() == best + [-1] * (k - len(best))
        assert (scores[at, len(best) :] == -np.inf).all()


def test_ties_go_to_the_lower_row() -> None:
    index, query = ExactIndex.build(np.ones((600, 2), np.float32)), np.ones((1, 2), np.float32)
    for k in (6, 599, 600):
        assert index.search(query, k)[0].tolist() == [list(range(k))]


def test_exact_search_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = ExactIndex.build(clustered(300)), clustered(40, seed=1)
    whole = index.search(queries, 7)
    monkeypatch.setattr("models.index.CHUNK", 900)
    parts = index.search(queries, 7)
    np.testing.assert_array_equal(parts[0], whole[0])


@pytest.mark.parametrize("factory", FLOORS)
def test_recall_floor_also_after_loading(factory: str, tmp_path: Path) -> None:
    vectors, queries = clustered(3000), clustered(100, seed=2)
    exact, built = ExactIndex.build(vectors), FaissIndex.build(vectors, factory)
    assert built.recall >= FLOORS[factory]
    assert recall_against(exact, built, queries) >= FLOORS[factory]
    built.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert isinstance(loaded, FaissIndex)
    about = (loaded.factory, loaded.recall, loaded.probes, len(loaded))
    assert about == (factory, built.recall, built.probes, 3000)
    for ours, theirs in zip(loaded.search(queries, 20), built.search(queries, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("factory", ["Flat", "HNSW32,SQfp16"])
def test_faiss_fills_up_where_there_are_few(factory: str) -> None:
    rows, scores = FaissIndex.build(clustered(5), factory).search(clustered(2, seed=3), 8)
    assert (rows.dtype, scores.dtype) == (np.int32, np.float32)
    assert (rows[:, 5:] == -1).all()
    assert (scores[:, 5:] == -np.inf).all()
    assert (np.sort(rows[:, :5], axis=1) == np.arange(5)).all()


def test_many_equal_one_by_one() -> None:
    index, queries = FaissIndex.build(clustered(500), "HNSW32,SQfp16"), clustered(9, seed=4)
    together = index.search(queries, 10)[0]
    alone = np.concatenate([index.search(queries[at : at + 1], 10)[0] for at in range(9)])
    np.testing.assert_array_equal(together, alone)


def test_kind_follows_size() -> None:
    assert isinstance(build_index(clustered(50)), ExactIndex)
    assert factory_for(FLAT_BELOW - 1) == "Flat"
    assert factory_for(FLAT_BELOW) == "IVF1024,SQ8"
    assert factory_for(1_000_000) == "IVF4096,SQ8"
    assert factory_for(SQ8_BELOW) == "IVF16384_HNSW32,PQ64x4fsr,Refine(SQ8)"


def test_more_lists_are_probed_until_the_recall_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.index.PROBES", 1)
    vectors, queries = clustered(3000), clustered(100, seed=2)
    built = FaissIndex.build(vectors, "IVF64,SQ8", queries)
    assert built.probes > 1
    exact = ExactIndex.build(vectors)
    assert built.recall == recall_against(exact, built, queries, RECALL_AT) >= 0.97
    built.index.nprobe = built.probes - built.probes // 16 - 1
    assert recall_against(exact, built, queries, RECALL_AT) < 0.97  # nor are they more than it takes
    monkeypatch.setattr("models.index.WANTED", 0.01)
    assert FaissIndex.build(vectors, "IVF64,SQ8", queries).probes == 1


def test_viewers_without_a_past_widen_no_search() -> None:
    """Their vectors are zeros, for which an exact search gives the first rows and no other can."""
    vectors, queries = clustered(3000), clustered(40, seed=1)
    strangers = np.concatenate([np.zeros((20, queries.shape[1]), np.float32), queries])
    built, expected = (FaissIndex.build(vectors, "IVF64,SQ8", asked) for asked in (strangers, queries))
    assert (built.probes, built.recall) == (expected.probes, expected.recall)
    assert FaissIndex.build(vectors, "IVF64,SQ8", strangers[:20]).recall >= expected.recall - 0.1


def test_inner_products_count_lengths() -> None:
    """The nearest in angle is not the largest product where vectors differ in length."""
    rng = np.random.default_rng(5)
    vectors = clustered(4000)
    vectors[:, -1] = rng.normal(0, 0.5, 4000)  # as the towers' place for popularity
    queries = clustered(50, seed=6)
    queries[:, -1] = 1
    for factory in ("IVF64,SQ8", "HNSW32,SQfp16"):
        built = FaissIndex.build(vectors, factory, queries)
        assert recall_against(ExactIndex.build(vectors), built, queries, 100) >= 0.95


def test_exact_save_and_load(tmp_path: Path) -> None:
    vectors = clustered(30)
    ExactIndex.build(vectors).save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    np.testing.assert_array_equal(loaded.search(vectors, 3)[0][:, 0], np.arange(30))
    with pytest.raises(MissingData):
        load_index(tmp_path)
    (tmp_path / "index" / "vectors.npy").write_bytes(b"")
    with pytest.raises(CorruptData):
        load_index(tmp_path / "index")


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        ExactIndex.build(np.zeros((2, 2)))
    with pytest.raises(EmptyData):
        FaissIndex.build(np.zeros((0, 4), np.float32))
    with pytest.raises(CorruptData, match="nan"):
        ExactIndex.build(np.full((2, 2), np.nan, np.float32))
    index = ExactIndex.build(clustered(10))
    with pytest.raises(ValueError, match=r"not \[B, 16\]"):
        index.search(np.zeros((1, 3), np.float32), 2)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(clustered(1), 0)
    FaissIndex.build(clustered(10), "Flat").save(tmp_path)
    (tmp_path / "index.faiss").write_bytes(b"no index")
    with pytest.raises(CorruptData):
        FaissIndex.load(tmp_path)
