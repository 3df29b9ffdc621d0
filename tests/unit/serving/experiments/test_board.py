"""Requests get their variants, and are exposed exactly where a variant could have changed the answer."""

import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from serving.deadlines import Trace
from serving.experiments.board import Board, Joined
from serving.rules import FunnelConfig, Limits
from tests.support.bundles import tiny_bundle
from tests.support.videos import past_of, viewer_of
from upnext.errors import NotFound, StoreUnavailable
from upnext.experiments import parse

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
EVERY = 40
"""Units, of which each variant has some."""
UNITS = [f"u{i:02d}" for i in range(EVERY)]


def started(server, name="one", treatment=None, **changes):
    """Start an experiment whose control changes nothing."""
    variants = [
        {"name": "control", "weight": 0.5},
        {"name": "treatment", "weight": 0.5, "parameters": treatment or {}},
    ]
    given = {"name": name, "layer": name, "start": NOW - timedelta(days=1), "variants": variants} | changes
    server.stores.experiments.put(parse(given))
    server.look_at_experiments()


def exposed(server):
    """(experiment, unit, variant) of what was written by now."""
    server.look_at_experiments()
    rows = server.stores.experiments.exposures().to_pylist()
    return {(row["experiment"], row["user_id"], row["variant"]) for row in rows}


@pytest.fixture(autouse=True)
def clock(server):
    server.engine.experiments._clock = lambda: NOW


@pytest.fixture
def board(server):
    return server.engine.experiments


def test_without_experiments_nothing_is_touched(server, board):
    answer = server.engine.home("ann", 10)
    assert answer.experiments == {}
    assert answer.release is server.engine.current


def test_the_answer_names_its_variant_and_follows_it(server):
    started(server, treatment={"retrievers.new": 0.0, "rules.explore_every": 0})
    answers = {unit: server.engine.home(unit, 10) for unit in UNITS}
    variants = {unit: answer.experiments["one"] for unit, answer in answers.items()}
    assert set(variants.values()) == {"control", "treatment"}
    for unit, answer in answers.items():
        treated = variants[unit] == "treatment"
        assert ("new" in answer.trace.counts) != treated
        assert not (treated and answer.slate.explored.any())
    assert any(answer.slate.explored.any() for answer in answers.values())
    assert exposed(server) == {("one", unit, variant) for unit, variant in variants.items()}
    answered = list(variants.values()).count("treatment")
    line = f'answers_total{{experiment="one",variant="treatment",whole="yes"}} {answered}.0'
    assert line in server.telemetry.text().decode()


def test_a_combination_is_configured_once_for_a_release(server, board, bundle):
    started(server, treatment={"weights.like": 9.0})

    def funnels():
        for unit in UNITS:
            server.engine.home(unit, 5)
        assert all(base is server.engine.current for base, *_ in board._state.made.values())
        return [funnel for *_, funnel in board._state.made.values()]

    first, again = funnels(), funnels()
    assert len(first) == 2 and all(one is other for one, other in zip(first, again, strict=True))
    server.releases.use(bundle, "again")
    second = funnels()
    assert len(second) == 2 and not any(one is other for one in first for other in second)


def test_a_rule_of_home_does_not_expose_a_related_request(server):
    started(server, treatment={"rules.explore_every": 2})
    for unit in UNITS:
        assert server.engine.related("v003", unit, 10).experiments.keys() == {"one"}
    assert exposed(server) == set()
    assert any(server.engine.home(unit, 10).slate.explored.any() for unit in UNITS)
    assert exposed(server)


def test_both_sides_of_an_answer_that_differs_are_exposed_and_of_one_that_does_not_neither(server):
    """Demotion by what was seen matters only to viewers with a past; of them, to both variants' alike."""
    engine, stranger = server.engine, server.engine.viewer(server.engine.current, None, Trace())
    past = past_of(list(range(60)), age_s=[86_400.0] * 60)
    known = set(UNITS[: EVERY // 2])

    def viewer(release, user_id, trace, **asked):
        found = replace(stranger, user_id=user_id)
        return replace(found, past=past) if user_id in known else found

    engine.viewer = viewer
    started(server, treatment={"rules.seen_half_life_s": 60.0})
    for unit in UNITS:
        engine.home(unit, 10)
    rows = exposed(server)
    assert {unit for _, unit, _ in rows} == known
    assert {variant for _, _, variant in rows} == {"control", "treatment"}


def test_weights_that_keep_the_order_expose_nobody(server):
    """The tiny ranker's heads all rise together: more weight on likes changes scores and no place."""
    started(server, treatment={"weights.like": 2.5})
    for unit in UNITS:
        server.engine.home(unit, 10)
    assert exposed(server) == set()


def test_search_exposes_only_who_searched(server):
    started(server, treatment={"retrievers.search": 0.0})
    engine, asking = server.engine, server.engine.viewer

    def viewer(release, user_id, trace, **asked):
        found = asking(release, user_id, trace, **asked)
        return replace(found, query="topic1") if user_id in UNITS[:5] else found

    engine.viewer = viewer
    for unit in UNITS:
        engine.home(unit, 10)
    assert {unit for _, unit, _ in exposed(server)} == set(UNITS[:5])


def test_once_a_day_and_never_testers(server, board):
    started(server, treatment={"retrievers.new": 0.0}, overrides={"u00": "treatment"})
    for _ in range(3):
        assert server.engine.home("u00", 5).experiments == {"one": "treatment"}
        server.engine.home("u01", 5)
    board.judge()
    assert len(board._waiting) == 1
    board._clock = lambda: NOW + timedelta(days=1)
    server.engine.home("u01", 5)
    assert len(exposed(server)) == 1
    assert server.stores.experiments.exposures()["date"].to_pylist() == ["2026-06-10", "2026-06-11"]


def test_trending_has_no_unit_and_no_experiment(server):
    started(server, treatment={"retrievers.trending": 0.0})
    assert server.engine.trending("SE", "ann", 10).experiments == {}


def test_stopping_gives_everybody_the_plain_funnel_again(server):
    started(server, treatment={"retrievers.new": 0.0})
    held = server.stores.experiments.all()[0]
    server.stores.experiments.put(held.stopped(NOW))
    server.look_at_experiments()
    assert server.engine.home("u00", 5).release is server.engine.current


def test_what_the_funnel_does_not_know_does_not_run_and_is_told(server, board):
    started(server, treatment={"rules.freshness": 1})
    assert server.engine.home("u00", 5).experiments == {}
    assert "one does not run: one: parameters of treatment: no parameter is called" in board.failing
    assert server.trouble["experiments"] == board.failing
    started(server, "two", treatment={"retrievers.new": 0.0})
    assert server.engine.home("u00", 5).experiments.keys() == {"two"}


def test_when_the_store_is_away_what_was_known_goes_on_and_exposures_wait(server, board):
    started(server, treatment={"retrievers.new": 0.0})

    def away():
        raise StoreUnavailable("platform.db does not answer")

    server.engine.home("u01", 5)
    board.look(away, server.beside)
    assert server.engine.home("u00", 5).experiments.keys() == {"one"}
    assert "does not answer" in server.trouble["experiments"]
    assert {unit for _, unit, _ in exposed(server)} == {"u00", "u01"}
    assert server.trouble == {}


def test_parameters_that_do_not_go_together_leave_the_feed_as_it_was(server, board):
    """Each layer switches off what the other leaves: together no video would be worth anything."""
    halves = ({"weights.long_view": 0.0, "weights.like": 0.0}, {"weights.share": 0.0, "weights.watch": 0.0})
    for name, half in zip(("one", "two"), halves, strict=True):
        started(server, name, treatment=half, overrides={"tester": "treatment"})
    answer = server.engine.home("tester", 5)
    assert answer.experiments == {} and answer.release is server.engine.current
    assert "one, two do not go together: all weights but not_interested are 0" in board.failing


def test_a_release_answers_beside_the_champion(server, tmp_path):
    """A viewer's past follows into the rows of the other release's catalogue."""
    other = tiny_bundle(tmp_path, videos=40, seed=1)
    started(server, treatment={"release": str(other.folder)})
    engine, asking = server.engine, server.engine.viewer
    past = past_of([100, 3])

    def viewer(release, user_id, trace, **asked):
        return replace(asking(release, user_id, trace, **asked), past=past)

    engine.viewer = viewer
    answers = [engine.home(unit, 10) for unit in UNITS]
    for answer in answers:
        treated = answer.experiments["one"] == "treatment"
        assert answer.release.version == (other.folder.name if treated else engine.current.version)
        catalogue = answer.release.bundle.catalogue
        seen = [str(catalogue.ids[row]) for row in answer.viewer.seen]
        assert seen == (["v003"] if treated else ["v100", "v003"])
    assert {answer.experiments["one"] for answer in answers} == {"control", "treatment"}
    assert len(exposed(server)) == EVERY


def test_a_release_that_cannot_be_loaded_stops_its_experiment_for_every_variant(server, board):
    started(server, treatment={"release": "nowhere"})
    assert all(engine_answer.experiments == {} for engine_answer in [server.engine.home("u00", 5)])
    assert "release 'nowhere'" in board.failing
    with pytest.raises(NotFound):
        server.beside.load("nowhere")


def test_what_is_blocked_goes_from_the_release_beside_too(server, tmp_path):
    other = tiny_bundle(tmp_path, videos=40, seed=1)
    started(server, treatment={"release": str(other.folder)}, overrides={"tester": "treatment"})
    shown = str(other.catalogue.ids[server.engine.home("tester", 10).slate.rows[0]])
    server.barred.note({shown: (False, False)})
    again = server.engine.home("tester", 30)
    assert again.release.version == other.folder.name
    assert shown not in other.catalogue.ids[again.slate.rows].tolist()


def test_an_operators_parameters_hold_for_the_release_beside_too(server, tmp_path):
    """Else a test of a release would be one of the parameters besides."""
    other = tiny_bundle(tmp_path, videos=40, seed=1)
    started(server, treatment={"release": str(other.folder)}, overrides={"tester": "treatment"})
    limits = Limits(candidates=20, retrieve_s=10, rank_s=10)
    before = server.engine.home("tester", 5)
    server.releases.configure(FunnelConfig(limits=limits, weights={"like": 9.0}))
    answer = server.engine.home("tester", 5)
    assert (before.trace.counts["pool"], answer.trace.counts["pool"]) == (40, 20)
    funnel = next(funnel for _, _, funnel in server.engine.experiments._state.made.values())
    assert funnel.ranker.override == {"like": 9.0}


def test_who_is_forgotten_is_not_exposed_any_more(server, board):
    started(server, treatment={"retrievers.new": 0.0})
    for unit in ("u00", "u01"):
        server.engine.home(unit, 5)
    board.forget("u00")
    board.judge()
    assert board.forget("u01") == 1
    assert exposed(server) == set()


def test_who_was_forgotten_is_a_new_unit_the_same_day(server, board):
    started(server, treatment={"retrievers.new": 0.0})
    for _ in range(2):
        server.engine.home("u00", 5)
        assert len(exposed(server)) == 1
        board.forget("u00")
        assert server.stores.experiments.forget("u00") == 1


@dataclass
class Answered:
    """An outcome that matters; ``meanwhile`` happens while that is found out."""

    viewer: object
    meanwhile: object = None

    def light(self):
        return self

    def mattered(self, experiment, others):
        if self.meanwhile:
            self.meanwhile()
        return True


@pytest.fixture
def joined():
    """What a unit takes part in."""
    variants = [{"name": name, "weight": 0.5} for name in ("control", "treatment")]
    experiment = parse({"name": "one", "layer": "one", "start": NOW, "variants": variants})
    return Joined(None, [(experiment, experiment.variants[0])])


def test_nobody_is_missed_who_is_being_judged(joined):
    board, erasing = Board(), []

    def erase():
        erasing.append(Thread(target=board.forget, args=("u",)))
        erasing[0].start()
        erasing[0].join(0.2)  # it must wait until the answer is judged

    board.expose(joined, Answered(replace(viewer_of(), user_id="u"), erase))
    board.judge()
    erasing[0].join()
    assert not board._waiting and not board._told


def test_nobody_is_missed_whose_exposure_is_being_written(joined):
    board, erasing = Board(), []

    class Away:
        def expose(self, rows):
            erasing.append(Thread(target=board.forget, args=("u",)))
            erasing[0].start()
            erasing[0].join(0.2)
            raise StoreUnavailable("away")

    board.expose(joined, Answered(replace(viewer_of(), user_id="u")))
    board.judge()
    with pytest.raises(StoreUnavailable):
        board.write(Away())
    erasing[0].join()
    assert not board._waiting


def test_answers_go_on_while_somebody_is_forgotten(joined):
    board, answered, held = Board(), Answered(viewer_of()), sys.getswitchinterval()
    stop = []

    def answers():
        while not stop:
            board.expose(joined, answered)

    sys.setswitchinterval(1e-6)
    answering = Thread(target=answers)
    answering.start()
    try:
        for number in range(300):
            board.forget(f"u{number}")
    finally:
        stop.append(True)
        answering.join()
        sys.setswitchinterval(held)
    assert all(each[2] is answered for each in board._asked)
