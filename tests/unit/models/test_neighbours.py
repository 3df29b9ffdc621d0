"""Neighbours against a brute-force cosine."""

from pathlib import Path

import numpy as np
import pytest

from models.dataset import Interactions
from models.neighbours import Neighbours
from upnext.errors import CorruptData, MissingData

USERS, VIDEOS = 30, 12


def log() -> Interactions:
    rng = np.random.default_rng(5)
    met = rng.random((USERS, VIDEOS)) < 0.4
    met[:, 11] = False
    user, video = (axis.astype(np.int32) for axis in np.nonzero(met))
    strength = rng.uniform(-0.5, 2, len(user)).astype(np.float32)
    return Interactions(user, video, video.astype(np.int64), strength, strength, USERS)


def similarities(shrink: float) -> np.ndarray:
    rated = np.zeros((USERS, VIDEOS))
    rated[log().user, log().video] = np.sqrt(np.maximum(log().strength, 0))
    product = rated.T @ rated
    norms = np.sqrt(np.diag(product))
    np.fill_diagonal(product, 0)
    return product / (np.outer(norms, norms) + shrink)


@pytest.mark.parametrize("cells", [12, 1 << 24])
def test_equal_to_brute_force(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.neighbours.CELLS", cells)
    found = Neighbours.fit(log(), VIDEOS, k=4, shrink=2.0)
    expected = similarities(2.0)
    for video in range(VIDEOS):
        best = [other for other in np.argsort(-expected[video]) if expected[video, other] > 0][:4]
        assert found.rows[video].tolist() == best + [-1] * (4 - len(best))
        np.testing.assert_allclose(found.scores[video, : len(best)], expected[video, best], rtol=1e-5)
    assert found.rows[11].tolist() == [-1] * 4
    assert not found.scores[11].any()


def test_only_the_newest_of_a_user_count() -> None:
    found = Neighbours.fit(log(), VIDEOS, k=VIDEOS, per_user=1)
    assert (found.rows == -1).all()


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
