"""Propensities of the log: they sum to one, and are those that brute force finds."""

import numpy as np
import pyarrow.compute as pc
import pytest

from upnext.world.config import START_US, WorldConfig
from upnext.world.logging_policy import LoggingPolicy, propensities, without_repeats
from upnext.world.population import believed_tastes, draw_viewers
from upnext.world.words import WORDS_PER_TOPIC, topic_words
from upnext.world.world import World


@pytest.fixture(scope="module")
def tiny() -> World:
    """So few videos that repeats within a page are frequent and some topics have none."""
    return World(WorldConfig(users=20, videos=15, seed=2, days=2))


@pytest.fixture(scope="module")
def policy(tiny) -> LoggingPolicy:
    return LoggingPolicy.of_day(tiny.catalogue, 15, START_US)


def beliefs_of(world: World, policy: LoggingPolicy, count: int) -> np.ndarray:
    viewers = draw_viewers(world.config, world.space, np.arange(count))
    return policy.beliefs(believed_tastes(world.config.seed, viewers, np.full(count, START_US)))


def test_they_sum_to_one_over_the_catalogue(tiny, policy):
    beliefs = beliefs_of(tiny, policy, 20)
    assert np.allclose(beliefs.sum(axis=1), 1)
    every = np.broadcast_to(np.arange(15, dtype=np.int32), (20, 15))
    assert np.allclose(policy.probability(beliefs, every).sum(axis=1), 1, atol=1e-12)
    nobody_has_it = policy.beliefs(np.zeros((1, 24)))
    assert np.allclose(policy.probability(nobody_has_it, every[:1]).sum(), 1)


def test_brute_force_finds_the_same(tiny, policy):
    pages, slots = 200_000, 4
    beliefs = beliefs_of(tiny, policy, 1)
    draws = np.random.default_rng(0).random((pages, slots, 3))
    drawn = policy.draw(np.broadcast_to(beliefs, (pages, 24)), draws)
    barred = drawn == 3
    shown = without_repeats(drawn, barred)
    every = np.broadcast_to(np.arange(15, dtype=np.int32)[:, None], (15, slots))
    chance = policy.probability(np.broadcast_to(beliefs, (15, 24)), every)
    expected = propensities(chance)
    expected[3] = 0.0
    found = np.stack([(shown == video).mean(axis=0) for video in range(15)])
    error = np.sqrt(expected * (1 - expected) / pages)
    assert (np.abs(found - expected) <= 5 * error + 1e-12).all()


def test_a_page_by_hand():
    drawn = np.array([[5, 2, 5, 2, 7]], dtype=np.int32)
    barred = np.array([[False, False, False, False, True]])
    assert without_repeats(drawn, barred).tolist() == [[5, 2, -1, -1, -1]]
    assert np.allclose(propensities(np.array([[0.5, 0.5, 0.2]])), [[0.5, 0.25, 0.2 * 0.8**2]])


def test_the_log_carries_them_and_inverse_propensity_finds_the_catalogue(small, small_log):
    impressions = small_log.filter(pc.equal(small_log["event_type"], "impression"))
    others = small_log.filter(pc.not_equal(small_log["event_type"], "impression"))
    assert others["propensity"].null_count == len(others)
    propensity = impressions["propensity"].to_numpy()
    assert propensity.min() > 0
    assert propensity.max() <= 1
    # Weighted by 1 / propensity every live video counts once for each slot of each page that could show it.
    home = impressions.filter(pc.equal(impressions["surface"], "home"))
    pages = pc.count_distinct(home["request_id"]).as_py()
    total = (1.0 / home["propensity"].to_numpy().astype(np.float64)).sum() / (10 * pages)
    assert abs(total / small.catalogue.uploaded_us.size - 1) < 0.06


def test_pages_after_a_search_lean_to_its_topic(small, small_log):
    impressions = small_log.filter(pc.equal(small_log["event_type"], "impression"))
    searches = small_log.filter(pc.equal(small_log["event_type"], "search"))
    joined = impressions.join(
        searches.select(["request_id", "query"]), "request_id", join_type="inner", right_suffix="_s"
    )
    word_topic = {word: code // (5 * WORDS_PER_TOPIC) for code, word in enumerate(topic_words().to_pylist())}
    sought = np.array([word_topic[word] for word in joined["query_s"].to_pylist()])
    shown = small.catalogue.topic[small.video_rows(joined["video_id"])]
    assert (sought == shown).mean() > 0.3
    assert set(joined["surface"].to_pylist()) == {"search"}
