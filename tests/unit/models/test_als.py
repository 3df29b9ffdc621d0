"""ALS against implicit's own answer, a board with a known answer, and itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from models.als import AlsConfig, AlsModel
from models.dataset import Interactions
from models.history import Histories
from upnext.errors import CorruptData, EmptyData, MissingData

SMALL = AlsConfig(factors=16, alpha=10.0, regularization=0.05, iterations=10, threads=1, seed=3)


def checkerboard(n: int = 40) -> Interactions:
    """User u watched video v when u + v is even, except v = u."""
    user, video = (axis.ravel() for axis in np.indices((n, n)))
    met = ((user + video) % 2 == 0) & (user != video)
    user, video = user[met].astype(np.int32), video[met].astype(np.int32)
    m = len(user)
    return Interactions(
        user, video, video.astype(np.int64), np.ones(m, np.float32), np.full(m, np.nan, np.float32), n
    )


def history_of(log: Interactions) -> Histories:
    users = np.arange(log.n_users, dtype=np.int32)
    return log.histories(users, np.full(log.n_users, 10**6), 32)


@pytest.fixture(scope="module")
def model() -> AlsModel:
    return AlsModel.fit(checkerboard(), 41, SMALL)


def test_checkerboard_has_the_known_answer(model: AlsModel) -> None:
    scores = model.fold_in(history_of(checkerboard())) @ model.factors.T
    parity = np.arange(40) % 2
    same = parity[:, None] == parity[None, :]
    assert scores[:, :40][same].min() > 0.5
    assert np.abs(scores[:, :40][~same]).max() < 0.1
    for user in range(40):  # the one of their colour that they have not seen comes first among the unseen
        unseen = [video for video in range(40) if video == user or video % 2 != user % 2]
        assert max(unseen, key=lambda video: scores[user, video]) == user


def test_fold_in_is_the_formula_of_implicit(model: AlsModel) -> None:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(40)[:12] for _ in range(9)]).astype(np.int32)
    strength = rng.uniform(-1, 3, rows.shape).astype(np.float32)
    rows[3, 5:], strength[3, 5:] = -1, 0
    found = model.fold_in(Histories(rows, strength, np.zeros_like(strength)))

    viewer, place = np.nonzero((rows >= 0) & (strength > 0))
    video = rows[viewer, place]
    value = 1 + model.weight[video] * strength[viewer, place]
    with threadpool_limits(1, "blas"):
        peer = AlternatingLeastSquares(factors=16, regularization=model.ridge, num_threads=1)
    peer.item_factors = np.asarray(model.factors)
    expected = peer.recalculate_user(np.arange(9), csr_matrix((value, (viewer, video)), shape=(9, 41)))
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_many_equal_one_by_one(model: AlsModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.als.CHUNK", 7)
    histories = history_of(checkerboard())
    kept = np.arange(histories.rows.shape[1]) < np.arange(len(histories))[:, None] * 7 % 11  # of many lengths
    histories = Histories(
        np.where(kept, histories.rows, -1),
        np.where(kept, histories.strength, 0),
        np.where(kept, histories.age_s, 0),
    )
    together = model.fold_in(histories)
    alone = np.concatenate([model.fold_in(histories[at : at + 1]) for at in range(len(histories))])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_same_seed_same_factors(model: AlsModel) -> None:
    again = AlsModel.fit(checkerboard(), 41, SMALL)
    np.testing.assert_array_equal(again.factors, model.factors)


def test_nothing_known_gives_zeros(model: AlsModel) -> None:
    assert not model.factors[40].any()
    assert not model.fold_in(Histories.empty(2, 5)).any()
    disliked = Histories(
        np.array([[3, -1]], np.int32), np.array([[-1, 0]], np.float32), np.zeros((1, 2), np.float32)
    )
    assert not model.fold_in(disliked).any()


def test_old_engagement_weighs_less() -> None:
    log = checkerboard()
    model = AlsModel.fit(log, 41, replace(SMALL, half_life_days=1.0))
    rows, ones = np.array([[2, 3], [2, 3]], np.int32), np.ones((2, 2), np.float32)
    age_s = np.array([[0, 864_000], [864_000, 0]], np.float32)
    scores = model.fold_in(Histories(rows, ones, age_s)) @ model.factors.T
    assert scores[0, 4] > scores[0, 5]
    assert scores[1, 5] > scores[1, 4]


def test_popular_videos_weigh_less() -> None:
    log = checkerboard().where(checkerboard().video > 1)
    rare = log.where((log.video != 2) | (log.user < 10))
    model = AlsModel.fit(rare, 41, SMALL)
    assert model.weight[2] > model.weight[3]
    flat = AlsModel.fit(rare, 41, replace(SMALL, popularity_power=0.0))
    assert np.unique(flat.weight).tolist() == [10.0]


def test_save_and_load(model: AlsModel, tmp_path: Path) -> None:
    model.save(tmp_path / "als")
    loaded = AlsModel.load(tmp_path / "als")
    assert loaded.config == model.config
    histories = history_of(checkerboard())
    np.testing.assert_array_equal(loaded.fold_in(histories), model.fold_in(histories))
    with pytest.raises(MissingData, match="upnext step als"):
        AlsModel.load(tmp_path)
    (tmp_path / "als" / "als.json").write_text("{}")
    with pytest.raises(CorruptData):
        AlsModel.load(tmp_path / "als")


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 0"):
        AlsConfig(alpha=0)
    with pytest.raises(ValueError, match="half_life_days is -1"):
        AlsConfig(half_life_days=-1)
    log = checkerboard()
    with pytest.raises(EmptyData, match="strength above 0"):
        AlsModel.fit(log.where(log.video < 0), 41, SMALL)
