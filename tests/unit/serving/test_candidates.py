import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.candidates import RRF, UNRANKED, Candidates, union


def found(*rows, evidence=-1):
    return Candidates.of(np.asarray(rows, np.int32), -np.arange(len(rows), dtype=np.float32), evidence)


def test_union_keeps_who_found_what_at_which_rank_and_why():
    pool = union({"a": found(7, 3), "b": found(3, 5, evidence=9)}, {"a": 2.0}, 10)
    assert pool.rows.tolist() == [3, 7, 5]
    assert pool.fused.tolist() == pytest.approx([2 / (RRF + 1) + 1 / RRF, 2 / RRF, 1 / (RRF + 1)])
    assert [pool.sources(place) for place in range(3)] == [["a", "b"], ["a"], ["b"]]
    assert pool.ranks.tolist() == [[1, 0, UNRANKED], [0, UNRANKED, 1]]
    assert pool.evidence.tolist() == [[-1, -1, -1], [9, -1, 9]]


def test_union_of_nothing_is_empty():
    assert len(union({}, {}, 10)) == 0
    assert len(union({"a": Candidates.none()}, {}, 10)) == 0


def test_union_keeps_the_best():
    assert union({"a": found(*range(100))}, {}, 5).rows.tolist() == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.integers(0, 30), unique=True, max_size=20), max_size=6
    ),
    st.integers(1, 40),
)
def test_union_against_brute_force(lists, limit):
    pool = union({name: found(*rows) for name, rows in lists.items()}, {}, limit)
    scores = {}
    for rows in lists.values():
        for rank, row in enumerate(rows):
            scores[row] = scores.get(row, 0.0) + 1 / (RRF + rank)
    assert len(pool) == min(limit, len(scores))
    assert pool.fused.tolist() == pytest.approx(sorted(scores.values(), reverse=True)[:limit])
    for place, row in enumerate(pool.rows.tolist()):
        assert pool.sources(place) == [name for name, rows in lists.items() if row in rows]
        assert pool.fused[place] == pytest.approx(scores[row])
