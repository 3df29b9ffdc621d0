"""The search tries what it says, in bounds, and keeps the best."""

import numpy as np
import pytest

from models.als import AlsConfig
from models.als_search import Trial, best_of, search
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
    changed = [trial.config.regularization for trial in trials[1:4]]
    assert changed == pytest.approx([0.4, 0.2, 0.6])
    assert trials[4].config.alpha == START.alpha / 2
    assert all(0 <= trial.recall <= 1 for trial in trials)
    chance = 6 / 60
    assert best_of(trials) in [trial.config for trial in trials if trial.recall > 2 * chance]


def test_the_best_is_kept_and_of_equals_the_first() -> None:
    trials = [Trial(AlsConfig(alpha=alpha), recall) for alpha, recall in ((1, 0.2), (2, 0.5), (3, 0.5))]
    assert best_of(trials).alpha == 2


def test_nothing_to_compare_on() -> None:
    log = drifting_log()
    with pytest.raises(EmptyData, match="nothing to compare"):
        search(log.where(log.ts < 3_600_000_000), 60, START)
