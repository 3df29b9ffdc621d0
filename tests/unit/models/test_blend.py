"""The blend of ranker and retrievers: its score, its way to JSON and back, and how it is fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.blend import LIMIT, SIGNALS, Blend, standardised
from models.blend_fit import SECONDS, Pools, as_weights, choose, fit, judge, scaled
from upnext.errors import ConfigError, EmptyData

USERS, WIDTH = 300, 30


def pools(truth: Blend, seed: int = 0, seconds: bool = True) -> Pools:
    """Viewers of 20 to WIDTH candidates who watch one, drawn by the softmax of ``truth``."""
    rng = np.random.default_rng(seed)
    held = np.arange(WIDTH) < rng.integers(20, WIDTH + 1, USERS)[:, None]
    signals = np.where(held[:, :, None], rng.normal(size=(USERS, WIDTH, len(SIGNALS))), 0).astype("f4")
    noisy = signals @ as_weights(truth) + rng.gumbel(size=held.shape)
    long_view = np.zeros(held.shape)
    long_view[np.arange(USERS), np.where(held, noisy, -np.inf).argmax(axis=1)] = 1
    return Pools(signals, held, long_view, 30 * long_view if seconds else np.zeros(held.shape))


def test_a_signal_is_standardised_over_the_candidates() -> None:
    found = standardised(np.array([[1.0, 3.0], [5.0, 5.0]]))
    assert found.tolist() == [[-1, 1], [0, 0]]
    outlier = standardised(np.r_[np.zeros(200), 1.0])
    assert outlier.max() == LIMIT and outlier.dtype == np.float32
    assert standardised(np.empty((2, 0))).shape == (2, 0)


def test_the_score_by_hand() -> None:
    blend = Blend(utility=2, fused=-1, als=3)
    signals = {"utility": np.array([1.0, 3.0]), "fused": np.array([9.0, 7.0]), "popularity": np.ones(2)}
    assert blend.score(signals).tolist() == [-3, 3]  # nobody told als, and popularity counts nothing
    assert Blend(utility=0, fused=0, als=1).score(signals).tolist() == [0, 0]


def test_an_order_does_not_depend_on_a_signals_unit() -> None:
    rng = np.random.default_rng(0)
    signals = {name: rng.random(50) for name in SIGNALS}
    other = signals | {"als": 1_000 * signals["als"] - 7}
    blend = Blend(als=0.5, popularity=-0.2)
    np.testing.assert_allclose(blend.score(signals), blend.score(other), atol=1e-4)


def test_a_blend_round_trips(tmp_path: Path) -> None:
    blend = Blend(als=0.25, popularity=-1)
    blend.save(tmp_path / "blend.json")
    assert Blend.load(tmp_path / "blend.json") == blend


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"als": float("nan")}, "weight als of the blend is nan"),
        ({"als": "1"}, "finite number"),
        ({"utility": 0, "fused": 0}, "all weights of the blend are 0"),
        ({"ranker": 1}, "no weight is called ranker"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Blend.from_dict(given)


def test_gains_are_shares_of_long_views_and_of_seconds() -> None:
    held = np.ones((2, 2), bool)
    some = Pools(
        np.zeros((2, 2, len(SIGNALS)), "f4"), held, np.array([[1.0, 0], [1, 0]]), np.array([[4.0, 1], [0, 0]])
    )
    assert some.gains.tolist() == [[0.5 + SECONDS * 0.8, SECONDS * 0.2], [0.5, 0]]
    assert replace(some, seconds=np.zeros((2, 2))).gains.tolist() == [[0.5, 0], [0.5, 0]]


def test_an_order_is_judged_by_hand() -> None:
    signals = np.zeros((2, 3, len(SIGNALS)), "f4")
    signals[:, :, SIGNALS.index("utility")] = [[0, 1, 2], [0, 1, 9]]
    held = np.array([[True, True, True], [True, True, False]])
    long_view = np.array([[0.0, 1, 0], [0, 0, 0]])
    found = judge(Pools(signals, held, long_view, np.zeros((2, 3))), Blend(utility=1, fused=0))
    assert found.long_views[0] == pytest.approx(1 / np.log2(3)) and np.isnan(found.long_views[1])
    assert found.likelihood[0] == pytest.approx(1 - np.log(np.exp([0, 1, 2]).sum()))
    assert np.isnan(found.seconds).all() and np.isnan(found.likelihood[1])


def test_the_weights_that_viewers_follow_are_found() -> None:
    truth = Blend(utility=1.0, fused=0.0, als=0.8, neighbours=0.5, popularity=-0.4)
    found = fit(pools(truth), ridge=0.1)
    np.testing.assert_allclose(as_weights(found), as_weights(truth), atol=0.25)


def test_no_weight_near_the_fitted_one_is_better() -> None:
    some, ridge = pools(Blend(als=0.8)), 20.0
    found = as_weights(fit(some, ridge=ridge))

    def loss(weights: np.ndarray) -> float:
        away = weights - as_weights(Blend())
        likelihood = judge(some, Blend(*weights.tolist())).likelihood
        return float(-likelihood.sum() + ridge / 2 * away @ away)

    for place in range(len(SIGNALS)):
        for step in (-0.02, 0.02):
            moved = found.copy()
            moved[place] += step
            assert loss(moved) > loss(found)


def test_the_pull_to_the_default_grows_with_the_ridge() -> None:
    some, default = pools(Blend(als=0.8, two_tower=0.8)), as_weights(Blend())
    far, near = (np.abs(as_weights(fit(some, ridge=ridge)) - default).sum() for ridge in (1.0, 1_000.0))
    assert near < far / 2


def test_what_proves_better_on_others_is_kept_and_what_does_not_is_not() -> None:
    blend, about = choose(pools(Blend(als=1.0, popularity=0.5)))
    assert about["kept"] == "fitted" and blend.als > 0.3
    assert about["likelihood"][2] > 0 and about["long_views"][1] > about["long_views"][0]
    blend, about = choose(pools(Blend(), seconds=False), ridge=1.0)
    assert blend == Blend() and about["kept"] == "default" and about["why"]
    assert "seconds" not in about  # nobody knows how long anything was watched


def test_the_defaults_best_scale_orders_alike() -> None:
    some = pools(Blend(utility=2.4, fused=0.6))
    wider = scaled(some, Blend())
    assert wider.utility == pytest.approx(2.4, rel=0.25)
    assert wider.utility / wider.fused == pytest.approx(Blend().utility / Blend().fused)
    assert np.nanmean(judge(some, wider).likelihood) > np.nanmean(judge(some, Blend()).likelihood)


def test_nothing_watched_is_nothing_to_fit_on() -> None:
    some = pools(Blend())
    with pytest.raises(EmptyData, match="nothing to fit the blend on"):
        fit(replace(some, long_view=np.zeros_like(some.long_view), seconds=np.zeros_like(some.seconds)))
