"""Each rule on a slate made by hand, and the invariants on random ones."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from serving import postrank
from serving.postrank import HOME, SHELF, Situation, Slate
from serving.rules import DAY_S, Rules
from upnext.contracts import VIDEOS

NOW = 1_700_000_000_000_000
DAY_US = int(DAY_S * 1e6)


def catalogue_of(creators, age_days=None, status=None):
    """One video per creator name (None unknown), the first the oldest."""
    n = len(creators)
    ages = age_days or [100 + n - i for i in range(n)]
    rows = {
        "video_id": [f"v{i:03}" for i in range(n)],
        "creator_id": list(creators),
        "uploaded_at": [NOW - int(age * DAY_US) for age in ages],
        "status": status or ["active"] * n,
    }
    columns = [pa.array(rows.get(field.name, [None] * n)).cast(field.type) for field in VIDEOS]
    return Catalogue.of(pa.table(columns, schema=VIDEOS))


def situation_of(catalogue, count, rules=None, seen=(), age_s=(), strength=(), **changes):
    return Situation(
        catalogue=catalogue,
        restricted=changes.pop("restricted", np.zeros(len(catalogue), bool)),
        rules=rules or Rules(),
        now=NOW,
        count=count,
        seen=np.asarray(seen, np.int32),
        seen_age_s=np.asarray(age_s, np.float32),
        seen_strength=np.asarray(strength, np.float32),
        **changes,
    )


def slate_of(rows, score=None):
    rows = np.asarray(rows, np.int32)
    return Slate.of(rows, np.asarray(score if score is not None else -np.arange(len(rows)), np.float32))


def test_eligible_drops_what_may_not_be_shown():
    catalogue = catalogue_of("abcdef", [9, 8, 7, 6, 5, -1], ["active", "blocked", "deleted"] + 3 * ["active"])
    restricted = np.arange(6) == 3
    situation = situation_of(catalogue, 6, restricted=restricted)
    assert postrank.eligible(slate_of(range(6)), situation).rows.tolist() == [0, 4]
    grown_up = replace(situation, allow_restricted=True)
    assert postrank.eligible(slate_of(range(6)), grown_up).rows.tolist() == [0, 3, 4]


def test_eligible_drops_what_was_turned_down_or_excluded():
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
    lowered = postrank.demote_seen(slate_of(range(4), [9, 7, 5, 1]), situation)
    assert lowered.score.tolist() == [1, 3, 5, 1]  # the spread is 8: all of it, then half of it


def test_creators_that_were_turned_down_fall():
    rules = Rules(fatigue_strength=0.5, fatigue_half_life_s=100.0)
    situation = situation_of(catalogue_of("aabb"), 4, rules, seen=[0, 2], age_s=[100, 0], strength=[-1, 1])
    lowered = postrank.demote_fatigued(slate_of([1, 3], [8, 0]), situation)
    assert lowered.score.tolist() == [6, 0]  # 0.5 of the spread of 8, halved by age


def test_new_uploads_rise_and_unknown_upload_times_do_not():
    rules = Rules(fresh_strength=0.5, fresh_half_life_s=DAY_S)
    catalogue = catalogue_of("ab", [1, 0])
    raised = postrank.boost_fresh(slate_of([0, 1], [4, 0]), situation_of(catalogue, 2, rules))
    assert raised.score.tolist() == pytest.approx([5, 2])
    unknown = replace(situation_of(catalogue, 2, rules), now=0)
    raised = postrank.boost_fresh(slate_of([0, 1], [4, 0]), unknown)
    assert np.isfinite(raised.score).all()


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
    assert postrank.spread_creators(slate_of(range(len(creators))), situation).rows.tolist() == expected


def test_exploration_takes_its_slot_and_notes_the_chance():
    catalogue = catalogue_of("abcdefgh", [50, 49, 48, 47, 46, 45, 2, 1])
    rules = Rules(explore_every=3, explore_temperature=1.0)
    slate = slate_of(range(8), [7, 6, 5, 4, 3, 2, 1, 0])
    explored = postrank.explore(slate, situation_of(catalogue, 4, rules, seed=3))
    assert explored.explored.tolist() == [False, False, True, False] + 4 * [False]
    new = {6: 1 / (1 + np.exp(-1 / 7)), 7: 1 / (1 + np.exp(1 / 7))}
    assert explored.propensity[2] == pytest.approx(new[int(explored.rows[2])])
    assert explored.rows[[0, 1, 3]].tolist() == [0, 1, 2]
    again = postrank.explore(slate, situation_of(catalogue, 4, rules, seed=3))
    assert again.rows.tolist() == explored.rows.tolist()


def test_without_new_videos_nothing_is_explored():
    slate = slate_of(range(20))
    explored = postrank.explore(slate, situation_of(catalogue_of("a" * 20), 20))
    assert not explored.explored.any() and explored.rows.tolist() == list(range(20))


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
    ages_s = [60.0 * i for i in range(len(seen))]
    situation = situation_of(catalogue, count, seen=seen, age_s=ages_s, strength=strength, seed=n)
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
    creator = situation.catalogue.creator
    for at in range(2, len(shown)):
        run = creator[shown[at - 2 : at + 1]]
        if run[0] >= 0 and (run == run[0]).all():
            left = creator[list(allowed - set(shown[:at]))]
            assert (left == run[0]).all(), "three of one creator in a row while another was left"
