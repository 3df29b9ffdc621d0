"""From events and exposures in the lake to figures per unit, by hand; and the whole way from a request."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from serving.experiments.readout import Population, columns, read_out
from upnext.contracts import EVENTS, EXPOSURES
from upnext.errors import EmptyData
from upnext.experiments import parse
from upnext.settings import Settings
from upnext.stores import connect

START = datetime(2026, 6, 10, tzinfo=UTC)


def at(days):
    return START + timedelta(days=days)


def experiment(**changes):
    variants = [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}]
    return parse({"name": "one", "layer": "l", "start": START, "variants": variants} | changes)


@pytest.fixture
def lake(tmp_path):
    with connect(Settings(home=tmp_path)) as stores:
        yield stores.lake


def put_exposures(lake, *rows):
    made = [
        dict(zip(EXPOSURES.names, (f"{at(days):%Y-%m-%d}", name, user, variant, at(days)), strict=True))
        for name, user, variant, days in rows
    ]
    lake.append("exposures", pa.Table.from_pylist(made, schema=EXPOSURES), ["date"])


def put_events(lake, *rows):
    made = [
        {"event_id": str(i), "user_id": user, "event_type": kind, "timestamp": at(days), "video_id": "v"}
        | ({"watch_duration_ms": 10_000} if kind == "watch" else {})
        for i, (user, kind, days) in enumerate(rows)
    ]
    table = pa.Table.from_pylist(made, schema=EVENTS)
    lake.append("events", table.append_column("date", [[f"{at(row[2]):%Y-%m-%d}" for row in rows]]), ["date"])


def test_the_first_exposure_counts_and_units_of_two_variants_do_not(lake):
    put_exposures(
        lake,
        ("one", "u", "a", 2),
        ("one", "u", "a", 1),
        ("one", "w", "b", 1),
        ("one", "x", "a", 1),
        ("one", "x", "b", 2),
        ("other", "y", "a", 1),
    )
    found = Population.of(lake, experiment())
    told = dict(zip(found.ids.to_pylist(), found.variant.tolist(), strict=True))
    assert told == {"u": "a", "w": "b"} and found.crossed == 1
    assert found.at[found.ids.to_pylist().index("u")] == int(at(1).timestamp() * 1e6)


def test_what_units_did_by_hand(lake):
    put_exposures(lake, ("one", "u", "a", 1.5), ("one", "w", "b", 3.5))
    put_events(
        lake,
        ("u", "watch", -20),  # before the time before
        ("u", "watch", -13),
        ("u", "click", -13),
        ("u", "click", -2),
        ("u", "impression", -2),
        ("u", "watch", 0.5),  # within the experiment, before the exposure
        ("u", "impression", 1.5),
        ("u", "impression", 1.6),
        ("u", "click", 1.6),
        ("u", "not_interested", 1.7),
        ("u", "watch", 2.5),  # the day after
        ("u", "watch", 3.5),
        ("w", "impression", 3.5),
        ("w", "impression", 4.5),  # shown something the day after, and did nothing
        ("z", "watch", 2),  # not exposed
    )
    population = Population.of(lake, experiment())
    found = columns(lake, experiment(), population)
    u, w = (population.ids.to_pylist().index(each) for each in "uw")
    expected = {
        "watch_s": (20, 0),
        "watch_s_before": (10, 0),
        "clicks": (1, 0),
        "clicks_before": (2, 0),
        "impressions": (2, 2),
        "impressions_before": (1, 0),
        "turned_down": (1, 0),
        "returned": (1, 0),
        "days_before": (2, 0),
        "matured": (1, 0),
    }
    assert {name: (values[u], values[w]) for name, values in found.items()} == expected
    ended = columns(lake, experiment(stop=at(3)), population)
    assert ended["watch_s"][u] == 10


def test_a_readout_of_the_lake(lake):
    rng = np.random.default_rng(0)
    users = [(f"u{i}", "ab"[i % 2]) for i in range(400)]
    put_exposures(lake, *(("one", user, variant, 1) for user, variant in users))
    put_events(
        lake,
        *(
            (user, kind, 1 + 0.01 * (k + 1))
            for user, variant in users
            for kind in ("impression", "watch")
            for k in range(rng.poisson(4 if variant == "a" else 8) + 1)
        ),
    )
    asked = experiment(expected_users=400, guardrails=["not_interested_rate"])
    readout, population = read_out(lake, asked, at(5))
    assert readout.units == {"a": 200, "b": 200} and population.crossed == 0
    assert readout.verdict.decision == "ship" and readout.effects[0].control_mean == pytest.approx(
        50, rel=0.1
    )
    held_back, _ = read_out(lake, experiment(expected_users=400), at(5))  # nobody's day to return has come
    assert held_back.verdict.decision == "go on"
    assert "retention of b has too few units yet" in held_back.verdict.reason


def test_nobody_exposed_yet(lake):
    with pytest.raises(EmptyData, match="no exposure of 'one': serve while it runs, then bring"):
        read_out(lake, experiment(), START)
