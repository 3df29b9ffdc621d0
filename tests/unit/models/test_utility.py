"""The composite score, its weights' way to JSON and back, and their search."""

from math import log, log1p
from pathlib import Path

import numpy as np
import pytest

from models.utility import Slates, Weights, fit_weights, judge
from upnext.errors import ConfigError, CorruptData

NAMES = ("click", "long_view", "like", "share", "not_interested", "relevance", "watch_s")


def heads(**given: object) -> dict[str, np.ndarray]:
    shape = np.shape(next(iter(given.values())))
    return {name: np.asarray(given.get(name, np.zeros(shape)), np.float32) for name in NAMES}


def test_the_score_by_hand() -> None:
    weights = Weights(click=1, long_view=2, like=0, share=0, not_interested=-3, watch=0.5, exposure=0.5)
    given = heads(click=[0.5], long_view=[0.25], not_interested=[0.1], watch_s=[9.0], relevance=[0.04])
    expected = log(0.5 + 0.5 - 0.3 + 0.5 * log1p(9)) + 0.5 * log(0.04 / 0.96)
    assert weights.score(given) == pytest.approx(expected)


def test_what_is_worth_nothing_or_less_is_behind_all_else_and_in_order() -> None:
    given = heads(
        not_interested=[0.9, 0.5, 0, 0],
        long_view=[0, 0, 1e-5, 0],
        relevance=[1, 1, 0, 1],
        watch_s=[0, 0, 0, 0],
    )
    score = Weights(exposure=1.5).score(given)
    assert score[2] > score[3] > score[1] > score[0]
    assert np.isfinite(score).all()


def test_a_candidate_scores_alike_alone_and_in_a_batch() -> None:
    rng = np.random.default_rng(0)
    many = {name: rng.random((3, 5)).astype("f4") for name in NAMES}
    one = {name: values[1, 2:3] for name, values in many.items()}
    assert Weights().score(many)[1, 2] == Weights().score(one)[0]


def test_weights_round_trip(tmp_path: Path) -> None:
    weights = Weights(like=3.5, exposure=0)
    weights.save(tmp_path / "weights.json")
    assert Weights.load(tmp_path / "weights.json") == weights
    assert Weights.from_dict({"like": 3.5, "exposure": 0}) == weights


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"click": -1}, "weight click is -1"),
        ({"not_interested": 1}, "at most 0"),
        ({"like": float("nan")}, "finite"),
        ({"like": "2"}, "finite"),
        ({"like": True}, "finite"),
        ({"liek": 1}, "no weight is called liek"),
        ({"click": 0, "long_view": 0, "like": 0, "share": 0, "watch": 0}, "all weights"),
    ],
)
def test_impossible_weights_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Weights.from_dict(given)


def test_a_file_that_is_not_weights(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text("[1]")
    with pytest.raises(CorruptData, match="list"):
        Weights.load(tmp_path / "w.json")
    (tmp_path / "w.json").write_text("{")
    with pytest.raises(CorruptData, match="can't be read"):
        Weights.load(tmp_path / "w.json")


def slates(like_against_gain: bool = False) -> Slates:
    """Gain follows relevance; clicks mislead."""
    rng = np.random.default_rng(1)
    relevance, click = rng.random((2, 200, 30)).astype("f4")
    held = np.ones((200, 30), bool)
    held[:, 25:] = False
    relevance[:, 25:] = 1
    gain = np.where(held, relevance**4 * 10, 0).astype(float)
    liked = 1 - relevance if like_against_gain else np.zeros_like(gain)
    given = {**heads(relevance=relevance, click=click), "watch_s": np.ones_like(click)}
    return Slates(given, held, gain, liked.astype(float), np.zeros_like(gain), held)


def test_the_search_finds_what_orders_the_gain() -> None:
    start = Weights(exposure=0, click=4)
    fit = fit_weights(slates(), start)
    assert fit.ndcg > 0.99
    assert fit.ndcg > judge(slates(), start).mean_ndcg + 0.1
    assert fit.weights.exposure > 0


def test_the_search_does_not_buy_gain_with_likes() -> None:
    start = Weights(exposure=0, click=4)
    assert fit_weights(slates(like_against_gain=True), start).weights.exposure == 0


def test_like_and_not_interested_are_left_as_they_were() -> None:
    start = Weights(like=7, share=3, not_interested=-9, exposure=0)
    found = fit_weights(slates(), start).weights
    assert (found.like, found.share, found.not_interested) == (7, 3, -9)


def test_without_any_gain_nothing_is_chosen() -> None:
    empty = slates()
    empty.gain[:] = 0
    assert fit_weights(empty, Weights()).weights == Weights()
