"""The search tries what it says, in bounds, and keeps the best."""

from dataclasses import replace

import numpy as np
import pytest

from models.als import AlsConfig, AlsModel
from models.als_search import Trial, Window, best_of, search
from models.dataset import Interactions
from upnext.errors import EmptyData

START = AlsConfig(factors=4, threads=1, trials=5)


def drifting_log(users: int = 40, videos: int = 60, each: int = 15) -> Interactions:
    """User u watches videos of the group u % 3, one an hour."""
    rng = np.random.default_rng(0)
    video = np.concatenate([rng.permutation(np.arange(u % 3, videos, 3))[:each] for u in range(users)])
    user = np.repeat(np.arange(users, dtype=np.int32), each)
    ts = np.tile(np.arange(each, dtype=np.int64), users) * 3_600_000_000
    ones = np.ones(len(user), np.float32)
    return Interactions(user, video.astype(np.int32), ts, ones, ones, users)


def test_trials_are_bounded_repeatable_and_start_with_the_given() -> None:
    trials = search(drifting_log(), 60, START)
    assert len(trials) == 5
    assert trials[0].config == START
    assert trials == search(drifting_log(), 60, START)
    assert trials[1].config.regularization == pytest.approx(0.2)
    assert all(0 <= trial.ndcg <= 1 for trial in trials)


def test_each_setting_climbs_while_that_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(window: Window, model: AlsModel) -> float:
        at = model.config
        return -abs(at.regularization - 0.1) - abs(at.popularity_power - 0.75) - abs(at.alpha - 10) / 100

    monkeypatch.setattr(Window, "ndcg", peak)
    tried = [trial.config for trial in search(drifting_log(), 60, replace(START, trials=20))]
    # Down to 0.0889, the nearest to 0.1, and one too far; power down, up, and one too far; alpha both ways.
    regularization = [0.3, 0.2, 0.133333, 0.088889, 0.059259] + [0.088889] * 5
    assert [config.regularization for config in tried] == pytest.approx(regularization, abs=1e-6)
    assert [config.popularity_power for config in tried[5:]] == [0.25, 0.75, 1.0, 0.75, 0.75]
    assert [config.alpha for config in tried[8:]] == [5, 20]


def test_ndcg_by_hand() -> None:
    """One factor, so all viewers have the order 0, 1, 2, …, what was met aside."""
    factors = np.linspace(1, 0.05, 20, dtype=np.float32)[:, None]
    model = AlsModel(factors, np.ones(20, np.float32), 1.0, AlsConfig(factors=1))
    met, liked = [(0, 1), (1, 0), (2, 5)], [(0, 0), (0, 4), (1, 2), (2, 0)]
    rows = sorted([(user, 0, video) for user, video in met] + [(user, 100, video) for user, video in liked])
    user, ts, video = np.array(rows).T
    ones = np.ones(len(rows), np.float32)
    log = Interactions(user.astype(np.int32), video.astype(np.int32), ts, ones, ones, 3)
    window = Window.of(log, 90, 20)
    # The first finds what was wanted at places 1 and 4, the second at 2, the third at 1.
    second, fourth = 1 / np.log2(3), 1 / np.log2(5)
    assert window.ndcg(model) == pytest.approx(((1 + fourth) / (1 + second) + second + 1) / 3)


def test_no_setting_is_tried_twice_or_is_below_nought() -> None:
    trials = search(drifting_log(), 60, replace(START, popularity_power=0.0, trials=20))
    configs = [trial.config for trial in trials]
    assert len(set(configs)) == len(configs) < 20
    assert all(config.popularity_power >= 0 for config in configs)


def test_the_best_is_kept_and_of_equals_the_first() -> None:
    trials = [Trial(AlsConfig(alpha=alpha), ndcg) for alpha, ndcg in ((1, 0.2), (2, 0.5), (3, 0.5))]
    assert best_of(trials).config.alpha == 2


def test_nothing_to_compare_on() -> None:
    log = drifting_log()
    with pytest.raises(EmptyData, match="nothing to compare"):
        search(log.where(log.ts < 3_600_000_000), 60, START)
