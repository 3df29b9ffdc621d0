"""Who is in which experiment: the properties that a readout rests on."""

from datetime import UTC, datetime

import numpy as np
import pytest
from growthbook import Experiment as GrowthBookExperiment
from growthbook import GrowthBook
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from serving.experiments.assignment import Assignments, bucket
from upnext.experiments import parse

NOW = datetime(2026, 6, 10, tzinfo=UTC)
MANY = [f"u{i:08d}" for i in range(100_000)]
SOME = MANY[:5_000]


def made(name="one", weights=(0.5, 0.5), **changes):
    variants = [{"name": f"v{i}", "weight": weight} for i, weight in enumerate(weights)]
    return parse({"name": name, "layer": "ranking", "start": NOW, "variants": variants} | changes)


def picks(experiment, units, holdouts=None):
    """int[n], the place of each unit's variant, -1 where it is not in the experiment."""
    assignments = Assignments((experiment,), holdouts or {})
    found = (assignments.variant(experiment, unit) for unit in units)
    return np.asarray([-1 if each is None else int(each.name[1:]) for each in found])


def test_shares_are_as_the_weights_say():
    weights = (0.5, 0.3, 0.2)
    counts = np.bincount(picks(made(weights=weights), MANY), minlength=3)
    assert chisquare(counts, np.asarray(weights) * len(MANY)).pvalue > 0.001


def test_buckets_are_uniform():
    places = np.asarray([bucket("some salt", unit) for unit in MANY])
    assert chisquare(np.bincount((places * 100 + 1e-9).astype(int), minlength=100)).pvalue > 0.001


@pytest.mark.parametrize(("one", "other"), [("one", "two"), ("a", "b"), ("layer:ranking", "one")])
def test_two_salts_are_independent(one, other):
    table = np.zeros((10, 10))
    places = [np.asarray([bucket(salt, unit) for unit in MANY]) * 10 for salt in (one, other)]
    np.add.at(table, tuple(place.astype(int) for place in places), 1)
    assert chi2_contingency(table).pvalue > 0.001


def test_layers_overlap_independently():
    first, second = picks(made("one"), MANY), picks(made("two", layer="rules"), MANY)
    table = [[np.sum((first == a) & (second == b)) for b in range(2)] for a in range(2)]
    assert chi2_contingency(table).pvalue > 0.001


def test_one_layers_experiments_exclude_each_other():
    one, other = made("one", range=[0, 0.3]), made("two", range=[0.3, 1])
    inside = picks(one, SOME) >= 0, picks(other, SOME) >= 0
    assert not (inside[0] & inside[1]).any()
    assert (inside[0] | inside[1]).all()
    assert inside[0].mean() == pytest.approx(0.3, abs=0.03)


@settings(max_examples=30, deadline=None)
@given(
    ramps=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    salt=st.text(min_size=1, max_size=20),
    units=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=50),
)
def test_ramping_up_keeps_everybody_where_they_are(ramps, salt, units):
    low, high = (picks(made(salt=salt, ramp=ramp), units) for ramp in sorted(ramps))
    assert (high[low >= 0] == low[low >= 0]).all()
    again = picks(made(salt=salt, ramp=max(ramps)), units)
    assert (again == high).all()


def test_a_ramp_takes_its_share():
    assert (picks(made(ramp=0.2), MANY) >= 0).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("layer", ["", "ranking"])
def test_hold_outs_see_nothing_and_grow_by_adding(layer):
    experiment = made()
    small, large = (picks(experiment, MANY, {layer: share}) < 0 for share in (0.05, 0.1))
    assert small.mean() == pytest.approx(0.05, abs=0.005)
    assert large[small].all()
    assert (picks(experiment, SOME, {"another": 0.5}) >= 0).all()


def test_overrides_win_over_hash_ramp_and_hold_out():
    experiment = made(ramp=0.0, overrides={"tester": "v1"})
    assignments = Assignments((experiment,), {"": 1.0})
    assert [each.name for _, each in assignments.of("tester", NOW, "home")] == ["v1"]
    assert assignments.of("u00000001", NOW, "home") == []


def test_only_eligible_requests_in_time_and_units_with_a_name():
    experiment = made(eligibility={"surfaces": ["home"], "regions": ["SE"], "devices": ["phone"]})
    assignments = Assignments((experiment,))
    early = datetime(2026, 6, 9, tzinfo=UTC)
    asked = [
        ("u", NOW, "home", "SE", "phone"),
        ("u", NOW, "related", "SE", "phone"),
        ("u", NOW, "home", None, "phone"),
        ("u", NOW, "home", "SE", "tv"),
        ("u", early, "home", "SE", "phone"),
        ("", NOW, "home", "SE", "phone"),
    ]
    assert [len(assignments.of(*each)) for each in asked] == [1, 0, 0, 0, 0, 0]


def test_a_growthbook_client_finds_the_same():
    ours = made(weights=(0.5, 0.3, 0.2), range=[0.2, 0.9], ramp=0.4)
    theirs = GrowthBookExperiment(
        key=ours.name,
        variations=["v0", "v1", "v2"],
        weights=[0.5, 0.3, 0.2],
        coverage=0.4,
        seed=ours.salt,
        hashVersion=2,
        filters=[{"seed": "layer:ranking", "ranges": [(0.2, 0.9)], "hashVersion": 2, "attribute": "id"}],
    )
    expected = []
    for unit in SOME[:500]:
        client = GrowthBook(attributes={"id": unit})
        result = client.run(theirs)
        expected.append(result.variationId if result.inExperiment else -1)
        client.destroy()
    assert picks(ours, SOME[:500]).tolist() == expected
