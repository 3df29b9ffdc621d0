"""Neighbours against ridge regressions, one for each video, and a brute-force cosine."""

from pathlib import Path

import numpy as np
import pytest

from models.dataset import Interactions
from models.history import Histories
from models.neighbours import Neighbours, width
from upnext.errors import CorruptData, MissingData

USERS, VIDEOS = 30, 12
RIDGE = 2.0


def log() -> Interactions:
    rng = np.random.default_rng(5)
    met = rng.random((USERS, VIDEOS)) < 0.4
    met[:, 11] = False
    user, video = (axis.astype(np.int32) for axis in np.nonzero(met))
    strength = rng.uniform(-0.5, 2, len(user)).astype(np.float32)
    return Interactions(user, video, video.astype(np.int64), strength, strength, USERS)


def rated() -> np.ndarray:
    out = np.zeros((USERS, VIDEOS))
    out[log().user, log().video] = np.sqrt(np.maximum(log().strength, 0))
    return out


def cosines(shrink: float) -> np.ndarray:
    product = rated().T @ rated()
    norms = np.sqrt(np.diag(product))
    np.fill_diagonal(product, 0)
    return product / (np.outer(norms, norms) + shrink)


def regressions(videos: np.ndarray) -> np.ndarray:
    """Each of some videos told from the others of them, users of whom much is known weighing less."""
    known = rated()[:, videos]
    known /= np.maximum(np.sqrt(known.sum(axis=1, keepdims=True)), 1e-9)
    out = np.zeros((VIDEOS, VIDEOS))
    for place, video in enumerate(videos):
        rest = np.delete(known, place, axis=1)
        ridge = RIDGE * np.eye(len(videos) - 1)
        weights = np.linalg.solve(rest.T @ rest + ridge, rest.T @ known[:, place])
        out[np.delete(videos, place), video] = weights
    return out


def require(found: Neighbours, expected: np.ndarray, videos: np.ndarray) -> None:
    k = found.rows.shape[1]
    for video in videos:
        far = [other for other in np.argsort(-np.abs(expected[video])) if expected[video, other]][:k]
        best = sorted(far, key=lambda other: -expected[video, other])
        assert found.rows[video].tolist() == best + [-1] * (k - len(best))
        np.testing.assert_allclose(found.scores[video, : len(best)], expected[video, best], rtol=1e-4)


@pytest.mark.parametrize("block", [5, 1_024])
def test_weights_are_those_of_regressions(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.item_item.BLOCK", block)
    found = Neighbours.fit(log(), VIDEOS, k=4, ridge=RIDGE)
    require(found, regressions(np.arange(11)), np.arange(11))
    assert found.rows[11].tolist() == [-1] * 4
    assert not found.scores[11].any()


@pytest.mark.parametrize("cells", [12, 1 << 24])
def test_what_few_engaged_with_has_cosines(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.neighbours.CELLS", cells)
    found = Neighbours.fit(log(), VIDEOS, k=4, most=6, ridge=RIDGE, shrink=2.0)
    engaged = (rated() > 0).sum(axis=0)
    often = np.sort(np.argsort(-engaged, kind="stable")[:6])
    require(found, regressions(often), often)
    require(found, cosines(2.0), np.setdiff1d(np.arange(11), often))
    assert found.rows[11].tolist() == [-1] * 4


def test_only_the_newest_of_a_user_count() -> None:
    found = Neighbours.fit(log(), VIDEOS, k=VIDEOS, per_user=1)
    assert (found.rows == -1).all()


def test_nobody_liked_anything() -> None:
    nothing = log().where(np.zeros(len(log()), np.bool_))
    assert (Neighbours.fit(nothing, VIDEOS, k=3).rows == -1).all()


@pytest.mark.parametrize("held", [1, 1 << 21])
def test_votes_by_hand(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.neighbours.VOTES", held)
    rows = np.array([[2, 1], [2, -1], [0, -1], [-1, -1]], np.int32)
    scores = np.array([[0.5, 0.25], [0.125, 0], [1, 0], [0, 0]], np.float32)
    histories = Histories(
        np.array([[0, 1, 3], [2, 0, -1], [-1, -1, -1]], np.int32),
        np.array([[4, 1, 1], [-1, 1, 0], [0, 0, 0]], np.float32),
        np.zeros((3, 3), np.float32),
    )
    found = Neighbours(rows, scores).votes(histories, np.array([[2, 1, 0], [1, 2, 0], [0, 1, 2]], np.int32))
    # The first likes video 0 twice as much as video 1; the second turned video 2 down.
    assert found.tolist() == [[2 * 0.5 + 0.125, 2 * 0.25, 0], [0.25, 0.5, 0], [0, 0, 0]]


def test_votes_of_all_weights_are_the_linear_model() -> None:
    found = Neighbours.fit(log(), VIDEOS, k=VIDEOS, ridge=RIDGE)
    assert (found.scores < 0).any()
    liked = rated()
    histories = Histories(
        np.tile(np.arange(VIDEOS, dtype=np.int32), (USERS, 1)),
        np.square(liked).astype(np.float32),
        np.zeros((USERS, VIDEOS), np.float32),
    )
    votes = found.votes(histories, np.tile(np.arange(VIDEOS, dtype=np.int32), (USERS, 1)))
    np.testing.assert_allclose(votes, liked @ regressions(np.arange(11)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("videos", "kept"), [(0, 400), (10_000, 400), (20_000, 209), (1_000_000, 100)])
def test_a_smaller_catalogue_keeps_more_of_each(videos: int, kept: int) -> None:
    assert width(videos) == kept


def test_save_and_load(tmp_path: Path) -> None:
    saved = Neighbours.fit(log(), VIDEOS, k=3)
    saved.save(tmp_path / "neighbours")
    loaded = Neighbours.load(tmp_path / "neighbours")
    np.testing.assert_array_equal(loaded.rows, saved.rows)
    np.testing.assert_array_equal(loaded.scores, saved.scores)
    with pytest.raises(MissingData):
        Neighbours.load(tmp_path)
    (tmp_path / "neighbours" / "scores.npy").write_bytes(b"")
    with pytest.raises(CorruptData):
        Neighbours.load(tmp_path / "neighbours")
