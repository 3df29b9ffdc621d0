"""Each rule on a slate made by hand, and the invariants on random ones."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.exposure import Exposure
from serving import postrank
from serving.inventory import Inventory
from serving.postrank import HOME, SHELF, Situation, Slate, by_score, eligible, exploration
from serving.postrank.exploration import DRAWS, explore
from serving.postrank.order import share_with_small, spread_creators, spread_topics
from serving.postrank.scores import boost_fresh, demote_fatigued, demote_passed_over, demote_seen
from serving.rules import DAY_S, SWITCHABLE, Rules
from upnext.contracts import VIDEOS

NOW = 1_700_000_000_000_000
DAY_US = int(DAY_S * 1e6)


def catalogue_of(creators, age_days=None, **columns):
    """One video per creator name (None unknown), the first the oldest."""
    n = len(creators)
    ages = age_days or [100 + n - i for i in range(n)]
    rows = {
        "video_id": [f"v{i:03}" for i in range(n)],
        "creator_id": list(creators),
        "uploaded_at": [NOW - int(age * DAY_US) for age in ages],
        "status": ["active"] * n,
    } | columns
    arrays = [pa.array(rows.get(field.name, [None] * n)).cast(field.type) for field in VIDEOS]
    return Catalogue.of(pa.table(arrays, schema=VIDEOS))


def situation_of(
    catalogue,
    count,
    rules=None,
    seen=(),
    age_s=(),
    strength=(),
    directions=None,
    shown=None,
    well=None,
    **changes,
):
    n = len(catalogue)
    exposure = Exposure(
        np.asarray([0] * n if shown is None else shown, np.int32),
        np.asarray([0] * n if well is None else well, np.int32),
    )
    vectors = np.eye(n, dtype=np.float32) if directions is None else np.asarray(directions, np.float32)
    return Situation(
        inventory=Inventory.of(catalogue, vectors, exposure),
        rules=rules or Rules(),
        now=NOW,
        count=count,
        seen=np.asarray(seen, np.int32),
        seen_age_s=np.asarray(age_s, np.float32),
        seen_strength=np.asarray(strength, np.float32),
        **{name: np.asarray(value) if isinstance(value, list) else value for name, value in changes.items()},
    )


def slate_of(rows, score=None):
    rows = np.asarray(rows, np.int32)
    return Slate.of(rows, np.asarray(score if score is not None else -np.arange(len(rows)), np.float32))


def test_what_may_not_be_shown_is_dropped():
    status = ["active", "blocked", "deleted", *["active"] * 3]
    catalogue = catalogue_of(
        "abcdef", [9, 8, 7, 6, 5, -1], status=status, age_restricted=[i == 3 for i in range(6)]
    )
    situation = situation_of(catalogue, 6)
    assert postrank.eligible(slate_of(range(6)), situation).rows.tolist() == [0, 4]
    grown_up = replace(situation, allow_restricted=True)
    assert postrank.eligible(slate_of(range(6)), grown_up).rows.tolist() == [0, 3, 4]


def test_kids_see_only_what_is_made_for_them():
    catalogue = catalogue_of("abc", made_for_kids=[True, None, True], age_restricted=[False, False, True])
    situation = situation_of(catalogue, 3, kids=True, allow_restricted=True)
    assert postrank.eligible(slate_of(range(3)), situation).rows.tolist() == [0]


@pytest.mark.parametrize(
    ("region", "allowed"), [("AT", [1]), ("DE", [1, 2]), ("FR", [0, 1, 2]), (None, [0, 1, 2])]
)
def test_what_is_blocked_in_a_region_is_not_shown_there(region, allowed):
    blocked = pa.array([["AT", "DE"], None, ["AT"]], pa.list_(pa.string()))
    situation = situation_of(catalogue_of("abc", blocked_regions=blocked), 3, region=region)
    assert postrank.eligible(slate_of(range(3)), situation).rows.tolist() == allowed


def test_what_was_turned_down_or_excluded_is_dropped():
    situation = situation_of(
        catalogue_of("abcd"),
        4,
        seen=[1, 2],
        age_s=[5, 5],
        strength=[-1, 1],
        exclude=np.asarray([3], np.int32),
    )
    assert postrank.eligible(slate_of(range(4)), situation).rows.tolist() == [0, 2]


def test_seen_videos_fall_by_the_spread_and_come_back_with_time():
    rules = Rules(seen_strength=1.0, seen_half_life_s=100.0)
    situation = situation_of(catalogue_of("abcd"), 4, rules, seen=[0, 1], age_s=[0, 100], strength=[1, 1])
    lowered = demote_seen(slate_of(range(4), [9, 7, 5, 1]), situation)
    assert lowered.score.tolist() == [1, 3, 5, 1]  # the spread is 8: all of it, then half of it


def test_each_impression_without_a_click_lowers_a_video_and_a_click_ends_that():
    rules = Rules(passed_strength=0.25, passed_half_life_s=100.0)
    situation = situation_of(
        catalogue_of("abcd"),
        4,
        rules,
        seen=[2],
        age_s=[0],
        strength=[1],
        passed=[0, 0, 1, 2, *[3] * 9],
        passed_age_s=[0.0, 0.0, 100.0, 0.0, *[0.0] * 9],
    )
    lowered = demote_passed_over(slate_of(range(4), [9, 7, 5, 1]), situation)
    assert lowered.score.tolist() == [5, 6, 5, -7]  # twice a quarter of 8; half of one; clicked; at most 8


def test_creators_and_topics_that_were_turned_down_fall():
    rules = Rules(fatigue_strength=0.5, topic_fatigue_strength=0.25, fatigue_half_life_s=100.0)
    catalogue = catalogue_of("aabb", category=["x", "y", "x", None])
    situation = situation_of(catalogue, 4, rules, seen=[0, 2], age_s=[100, 0], strength=[-1, 1])
    lowered = demote_fatigued(slate_of([1, 2, 3], [8, 4, 0]), situation)
    assert lowered.score.tolist() == [6, 3, 0]  # half by age: of 0.5 for a's, of 0.25 for x's


def test_new_uploads_rise_and_unknown_upload_times_do_not():
    rules = Rules(fresh_strength=0.5, fresh_half_life_s=DAY_S)
    catalogue = catalogue_of("ab", [1, 0])
    raised = boost_fresh(slate_of([0, 1], [4, 0]), situation_of(catalogue, 2, rules))
    assert raised.score.tolist() == pytest.approx([5, 2])
    unknown = replace(situation_of(catalogue, 2, rules), now=0)
    raised = boost_fresh(slate_of([0, 1], [4, 0]), unknown)
    assert np.isfinite(raised.score).all()


def test_topics_are_spread_by_marginal_relevance():
    directions = [[1, 0], [2, 0], [1, 1], [0, 1]]  # 0 and 1 are alike, 2 half like each, 3 unlike them
    slate = slate_of(range(4), [3, 2.7, 1.5, 0])
    situation = situation_of(catalogue_of("abcd"), 4, Rules(topic_spread=0.5), directions=directions)
    # worth 1, .9, .5, 0, halved; after 0: .45 - .5, .25 - .354, 0 - 0; after 3: -.05, -.104
    assert spread_topics(slate, situation).rows.tolist() == [0, 3, 1, 2]
    off = replace(situation, rules=Rules(topic_spread=0))
    assert spread_topics(slate, off).rows.tolist() == [0, 1, 2, 3]


def test_creators_who_are_seldom_shown_get_their_share():
    catalogue = catalogue_of("aaaabbcc")
    shown = [50, 50, 50, 50, 20, 20, 1, 0]  # c is shown less than most
    situation = situation_of(catalogue, 5, Rules(small_share=0.4), shown=shown)
    assert situation.inventory.small.tolist() == [False] * 6 + [True] * 2
    assert share_with_small(slate_of(range(8)), situation).rows.tolist() == [0, 1, 2, 6, 7, 5, 3, 4]
    enough = share_with_small(slate_of([6, 7, 0, 1, 2, 3, 4, 5]), situation)
    assert enough.rows.tolist() == [6, 7, 0, 1, 2, 3, 4, 5]
    nobody = situation_of(catalogue, 5, Rules(small_share=0.4))
    assert share_with_small(slate_of(range(8)), nobody).rows.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("creators", "expected"),
    [
        ("aaab", [0, 1, 3, 2]),
        ("aaaab", [0, 1, 4, 2, 3]),
        ("aabb", [0, 1, 2, 3]),
        ("aaabbb", [0, 1, 3, 2, 4, 5]),
        ("aaaa", [0, 1, 2, 3]),
        ([None] * 4, [0, 1, 2, 3]),
    ],
)
def test_creators_are_spread(creators, expected):
    situation = situation_of(catalogue_of(creators), len(creators))
    assert spread_creators(slate_of(range(len(creators))), situation).rows.tolist() == expected


def test_exploration_draws_among_what_is_not_known_well_and_notes_the_chance():
    shown, well = [4_000] * 4 + [0, 0, 4_000, 4_000], [2_000] * 4 + [0, 0, 100, 3_900]
    rules = Rules(explore_every=3, explore_prior=10)
    chance = np.asarray([0.5] * 4 + [0.5, 0.2, 0.5, 0.5], np.float32)
    slate = replace(slate_of(range(8)), chance=chance)
    counts, propensity = np.zeros(8), np.zeros(8)
    for seed in range(200):
        situation = situation_of(catalogue_of("abcdefgh"), 4, rules, shown=shown, well=well, seed=seed)
        explored = explore(slate, situation)
        assert explored.explored.tolist() == [False, False, True] + [False] * 5
        assert explored.rows[[0, 1, 3]].tolist() == [0, 1, 2]
        counts[explored.rows[2]] += 1
        propensity[explored.rows[2]] += explored.propensity[2]
    assert counts.sum() == counts[[4, 5]].sum() == 200  # 4 and 5 are the ones that nobody was shown
    draws = np.random.default_rng(1).beta([[5, 2]], [[5, 8]], (20_000, 2))
    truth = (draws[:, 0] > draws[:, 1]).mean()
    assert counts[4] / 200 == pytest.approx(truth, abs=0.06)
    assert propensity[4] / counts[4] == pytest.approx(truth, abs=1.5 / DRAWS**0.5)
    again = explore(slate, situation)
    assert again.rows.tolist() == explored.rows.tolist()


def test_exploration_draws_once_for_all_its_places(monkeypatch):
    """Each place has the chance that its video has among the draws, of those that are left."""
    a_draw = np.zeros((DRAWS, 6))
    a_draw[:40, 3], a_draw[40:, 5], a_draw[:, 4] = 0.9, 0.9, 0.5  # of rows 3, 5 and 4
    made = []

    class Draws:
        def beta(self, a, b, size):
            made.append(size)
            return a_draw

        def integers(self, end):
            return 0

    monkeypatch.setattr(exploration.np.random, "default_rng", lambda seed: Draws())
    situation = situation_of(catalogue_of("abcdef"), rules=Rules(explore_every=2, explore_prior=10), count=6)
    explored = explore(slate_of(range(6)), situation)
    assert made == [(DRAWS, 6)]
    assert explored.rows.tolist() == [0, 3, 1, 4, 2, 5]
    assert explored.propensity.tolist() == [1, 40 / DRAWS, 1, 40 / DRAWS, 1, 1]


def test_exploration_ends_when_the_interval_is_narrow():
    catalogue, rules = catalogue_of("ab" * 5), Rules(explore_every=2, explore_width=0.2)
    wide = situation_of(catalogue, 4, rules, shown=[80] * 10, well=[40] * 10)
    narrow = situation_of(catalogue, 4, rules, shown=[100] * 10, well=[50] * 10)
    # 3.92 · √(.25 / (n + 11)), n impressions and 10 of the prior: .205 at 80, .186 at 100
    assert explore(slate_of(range(10)), wide).explored.any()
    assert not explore(slate_of(range(10)), narrow).explored.any()


def test_all_but_eligibility_and_the_sorting_can_be_switched_off():
    assert [rule.__name__ for rule in HOME if rule not in (eligible, by_score)] == list(SWITCHABLE)


@pytest.mark.parametrize("name", SWITCHABLE)
def test_each_rule_can_be_switched_off(name):
    rules = Rules(
        off=frozenset({name}), explore_every=4, small_share=0.3, fresh_strength=0.3, topic_spread=0.5
    )
    catalogue = catalogue_of("aaaabbbbcc", [i + 0.5 for i in range(10, 0, -1)], category=["x"] * 9 + ["y"])
    situation = situation_of(
        catalogue, 6, rules, seen=[0, 1], age_s=[0, 0], strength=[1, -1],
        passed=[4] * 3, passed_age_s=[0.0] * 3, shown=[9, 9, 9, 9, 5, 5, 5, 5, 0, 0],
        directions=np.random.default_rng(0).normal(size=(10, 3)), seed=0,
    )  # fmt: skip
    kept = tuple(rule for rule in HOME if rule.__name__ != name)
    slate = slate_of(range(10))
    off = postrank.apply(HOME, slate, situation)
    assert off.rows.tolist() == postrank.apply(kept, slate, situation).rows.tolist()
    on = postrank.apply(HOME, slate, replace(situation, rules=replace(rules, off=frozenset())))
    assert off.rows.tolist() != on.rows.tolist()


@st.composite
def random_slates(draw):
    n = draw(st.integers(1, 60))
    creators = draw(st.lists(st.sampled_from([*"abc", None]), min_size=n, max_size=n))
    ages = [float(n - i) for i in range(n)]
    rows = draw(st.permutations(range(n)))
    scores = draw(st.lists(st.floats(-5, 5, width=32), min_size=n, max_size=n))
    seen = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n))
    strength = draw(st.lists(st.sampled_from([-1.0, 0.1, 1.0]), min_size=len(seen), max_size=len(seen)))
    count = draw(st.integers(1, 70))
    catalogue = catalogue_of(creators, ages)
    shown = draw(st.lists(st.integers(0, 300), min_size=n, max_size=n))
    passed = draw(st.lists(st.integers(0, n - 1), max_size=9))
    situation = situation_of(
        catalogue,
        count,
        seen=seen,
        age_s=[60.0 * i for i in range(len(seen))],
        strength=strength,
        shown=shown,
        well=[each // 3 for each in shown],
        passed=np.asarray(passed, np.int32),
        passed_age_s=np.full(len(passed), 60.0, np.float32),
        directions=np.random.default_rng(n).normal(size=(n, 4)),
        seed=n,
    )
    return slate_of(rows, scores), situation


@settings(deadline=None)
@given(random_slates(), st.sampled_from([HOME, SHELF]))
def test_invariants(made, rules):
    slate, situation = made
    final = postrank.apply(rules, slate, situation)
    allowed = set(postrank.eligible(slate, situation).rows.tolist())
    shown = final.rows.tolist()
    assert len(set(shown)) == len(shown)
    assert set(shown) <= allowed
    assert len(shown) == min(situation.count, len(allowed))
    assert (slate.rows[final.place] == final.rows).all()
    assert ((final.propensity > 0) & (final.propensity <= 1)).all()
    creator = situation.inventory.catalogue.creator
    for at in range(2, len(shown)):
        run = creator[shown[at - 2 : at + 1]]
        if run[0] >= 0 and (run == run[0]).all():
            left = creator[list(allowed - set(shown[:at]))]
            assert (left == run[0]).all(), "three of one creator in a row while another was left"
