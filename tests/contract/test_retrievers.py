"""One contract for every retriever: the known answer, and nothing that the funnel could stumble over."""

import numpy as np
import pytest

from serving.candidates import Candidates
from serving.retrievers import Retriever
from tests.contract.retriever import NAMES, VIDEOS, Board


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("board"))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def retriever(board: Board, name: str) -> Retriever:
    return board.retriever(name)


@pytest.fixture
def found(board: Board, retriever: Retriever) -> list[Candidates]:
    return retriever.retrieve(board.crowd, 12)


def test_the_known_answer_comes_first(board: Board, name: str, found: list[Candidates]) -> None:
    for place, candidates in enumerate(found[:-1]):
        assert len(candidates) >= 5
        assert set(candidates.rows[:5].tolist()) <= board.answer(name, place)


def test_many_equal_one_by_one(board: Board, retriever: Retriever, found: list[Candidates]) -> None:
    assert len(found) == len(board.crowd)
    for place, together in enumerate(found):
        alone = retriever.retrieve(board.crowd[place : place + 1], 12)[0]
        assert together.rows.tolist() == alone.rows.tolist()
        assert together.evidence.tolist() == alone.evidence.tolist()
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 10 * VIDEOS])
def test_never_more_than_asked_for_nor_twice(board: Board, retriever: Retriever, k: int) -> None:
    for candidates in retriever.retrieve(board.crowd, k):
        assert len(candidates) <= k
        assert len(np.unique(candidates.rows)) == len(candidates)
        assert ((candidates.rows >= 0) & (candidates.rows < VIDEOS)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("creators", "topics")])
def test_fewer_are_the_beginning_of_more(board: Board, retriever: Retriever) -> None:
    """Creators and topics share k out among groups, so their order depends on it."""
    for few, many in zip(
        retriever.retrieve(board.crowd, 3), retriever.retrieve(board.crowd, 12), strict=True
    ):
        assert few.rows.tolist() == many.rows[:3].tolist()


def test_the_best_comes_first(found: list[Candidates]) -> None:
    for candidates in found:
        assert np.isfinite(candidates.scores).all()
        assert (np.diff(candidates.scores) <= 0).all()


def test_a_stranger_is_no_fault_and_no_evidence(name: str, found: list[Candidates]) -> None:
    stranger = found[-1]
    assert (stranger.evidence == -1).all()
    assert (len(stranger) > 0) == (name in ("two_tower", "trending", "new"))


def test_evidence_is_what_the_viewer_met(board: Board, name: str, found: list[Candidates]) -> None:
    for viewer, candidates in zip(board.viewers, found, strict=True):
        assert set(candidates.evidence.tolist()) <= {-1, *viewer.seen.tolist()}
        if name in ("creators", "topics", "because_you_watched") and len(candidates):
            assert (candidates.evidence >= 0).all()


def test_nobody_at_all(board: Board, retriever: Retriever) -> None:
    assert retriever.retrieve(board.crowd[0:0], 5) == []
