"""Off-policy estimates: by hand, and against a world that knows what the other policy would have earned."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest

from models.off_policy import Logged, doubly_robust, effective_size, snips
from upnext.errors import TooLittleData
from upnext.world.config import START, START_US, WorldConfig
from upnext.world.logging_policy import LoggingPolicy
from upnext.world.population import believed_tastes, draw_viewers
from upnext.world.world import World

# Weights 2, 0.5 and 0 for rewards 10, 20 and 40.
LOGGED = Logged.of([7, 7, 9], [10, 20, 40], [0.25, 0.5, 0.25], [0.5, 0.25, 0.0])


def test_kish_by_hand() -> None:
    assert effective_size([1, 1, 1, 0]) == 3
    assert effective_size([2, 0.5, 0]) == pytest.approx(2.5**2 / 4.25)
    assert effective_size([0, 0]) == 0


def test_snips_by_hand() -> None:
    found = snips(LOGGED, least=0)
    assert found.value == pytest.approx((2 * 10 + 0.5 * 20) / 2.5)
    assert found.effective_size == pytest.approx(2.5**2 / 4.25)
    assert (found.rows, found.clipped) == (3, 0)


def test_doubly_robust_by_hand() -> None:
    found = doubly_robust(LOGGED, predicted=[8, 24, 1], expected=[9, 12, 15], least=0)
    assert found.value == pytest.approx(12 + (2 * 2 + 0.5 * -4) / 2.5)


@pytest.mark.parametrize(
    ("guesses", "name"),
    [
        ({"predicted": [8, float("nan"), 1], "expected": [9, 12, 15]}, "predicted"),
        ({"predicted": [8, 24, 1], "expected": [9, 12, float("nan")]}, "expected"),
        ({"predicted": [8, 24, 1], "expected": [9, float("inf"), 15]}, "expected"),
        ({"predicted": [8, 24, 1], "expected": [9, 12]}, "expected"),
        ({"predicted": [8], "expected": [9, 12, 15]}, "predicted"),
    ],
)
def test_a_guess_that_is_no_number_is_refused(guesses: dict[str, list[float]], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a number for each of 3 rows"):
        doubly_robust(LOGGED, **guesses, least=0)


def test_a_clipped_weight_counts_less_and_is_reported() -> None:
    found = snips(LOGGED, clip=1.0, least=0)
    assert found.value == pytest.approx((1 * 10 + 0.5 * 20) / 1.5)
    assert found.clipped == pytest.approx(1 / 2.5)


def test_too_little_overlap_is_refused() -> None:
    with pytest.raises(TooLittleData, match=r"1 effective slots of 3 .* fewer than 100"):
        snips(LOGGED)
    apart = Logged.of([0, 1], [1, 1], [0.5, 0.5], [0, 0])
    with pytest.raises(TooLittleData, match="0 effective slots"):
        doubly_robust(apart, [0, 0], [0, 0], least=1)


@pytest.mark.parametrize(
    ("reward", "propensity", "target", "what"),
    [
        ([np.nan], [0.5], [0.5], "reward is not a number"),
        ([1.0], [0.0], [0.5], "propensity is outside"),
        ([1.0], [np.nan], [0.5], "propensity is outside"),
        ([1.0], [0.5], [1.5], "target probability is outside"),
        ([1.0, 2.0], [0.5], [0.5], "not of one length"),
    ],
)
def test_columns_that_cannot_be_judged_are_named(reward, propensity, target, what) -> None:
    with pytest.raises(ValueError, match=what):
        Logged.of([0] * len(propensity), reward, propensity, target)


@dataclass(frozen=True)
class Estimates:
    """By repeated log: the truth, and by estimator the value and its interval."""

    truth: float
    snips: np.ndarray
    robust: np.ndarray
    model: float
    """What the reward model alone says of the new policy."""


@pytest.fixture(scope="module")
def repeated() -> Estimates:
    """A hundred logs of 300 viewers, one slot in each of six hours, of a world of 60 videos.

    The new policy draws by a softmax of the viewers' true mean watch time; the reward model knows that mean
    with an error of its own for each viewer and video, and is wrong by a fifth.
    """
    rng = np.random.default_rng(0)
    world = World(WorldConfig(users=2_000, videos=60, seed=5, days=1))
    times = [START + timedelta(hours=hour) for hour in range(6)]
    policy = LoggingPolicy.of_day(world.catalogue, 60, START_US)
    everyone = np.arange(2_000)
    tastes = believed_tastes(world.config.seed, draw_viewers(world.config, world.space, everyone), START_US)
    logging = policy.probability(
        policy.beliefs(tastes), np.broadcast_to(np.arange(60, dtype=np.int32), (2_000, 60))
    )
    means = np.stack([world.appeal(everyone, at) for at in times])
    target = np.exp(means.mean(axis=0) / 10_000)
    target /= target.sum(axis=1, keepdims=True)
    model = 0.8 * means.mean(axis=0) * rng.lognormal(0, 0.3, target.shape)
    expected = (target * model).sum(axis=1)

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        viewers = rng.choice(2_000, 300, replace=False)
        parts = []
        for at in times:
            rows = (rng.random((300, 1)) < np.cumsum(logging[viewers], axis=1)).argmax(axis=1)
            watched = world.watch_ms(viewers, rows[:, None].astype(np.int32), at)[:, 0]
            parts.append(np.stack([viewers, rows, watched], axis=1))
        user, video, reward = np.concatenate(parts).astype(np.int64).T
        logged = Logged.of(user, reward, logging[user, video], target[user, video])
        robust = doubly_robust(logged, model[user, video], expected[user])
        return tuple(np.array([each.value, each.low, each.high]) for each in (snips(logged), robust))

    found = np.array([draw(seed) for seed in range(100)])
    return Estimates(
        float((target * means).sum(axis=2).mean()), found[:, 0], found[:, 1], float(expected.mean())
    )


@pytest.mark.parametrize("name", ["snips", "robust"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(repeated, name) -> None:
    value, low, high = getattr(repeated, name).T
    covered = (low <= repeated.truth) & (repeated.truth <= high)
    assert 0.88 <= covered.mean() <= 1.0  # of 100 at 95 %: below 88 once in 500 times
    assert value.mean() == pytest.approx(repeated.truth, rel=0.02)


def test_doubly_robust_varies_less(repeated) -> None:
    assert repeated.robust[:, 0].std() < 0.95 * repeated.snips[:, 0].std()


def test_the_model_alone_would_have_been_wrong(repeated) -> None:
    assert abs(repeated.model / repeated.truth - 1) > 0.1  # where the robust mean is within 0.02
