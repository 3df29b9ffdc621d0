"""The closed loop: who is served when, what is remembered of them, and that policies meet the same luck."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from components.ingest import ingest
from feature_repo.offline import SNAPSHOT, snapshot_name
from feature_repo.specs import USER
from models.catalogue import Catalogue
from models.history import SECOND, viewer_history
from serving import simulation
from serving.closed_loop import BATCH_US, SLOTS, Arm, Past, batches
from serving.commands import simulate
from serving.viewer import SEEN
from tests.support.bundles import tiny_bundle
from upnext.errors import ConfigError
from upnext.settings import Settings
from upnext.sources import open_source
from upnext.stores import connect
from upnext.world.config import START, START_US
from upnext.world.visits import Visits

SOURCE = "world:users=60,videos=150,seed=4,days=4"
AT = START + timedelta(days=2)


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """Two days of a small world in a lake, and hand-made models of the videos of all its four."""
    folder = tmp_path_factory.mktemp("platform")
    settings = Settings(home=folder / "home", dataset="tiny")
    with connect(settings) as stores:
        ingest(open_source(SOURCE), stores.lake, AT)
        catalogue = Catalogue.of(stores.lake.read("videos"))
        features = {USER.key: ["u00000000"]} | {name: [0.5] for name in USER.names}
        stores.lake.append(USER.table, pa.table(features | {SNAPSHOT: [snapshot_name(AT)]}), [SNAPSHOT])
    bundle = tiny_bundle(folder, catalogue=catalogue, meta={"as_of": AT.isoformat(), "source": SOURCE})
    return settings, bundle


@pytest.fixture(scope="module")
def plan(platform):
    settings, bundle = platform
    return simulation.Plan.of(settings, str(bundle.folder), viewers=25, days=2, seed=1)


@pytest.fixture(scope="module")
def courses(platform, plan):
    names = ("popularity", "random", "funnel", "without:session", "retriever:als")
    return simulation.simulate(platform[0], plan, names, jobs=1)


def test_every_policy_has_the_same_sessions_and_fills_its_pages(courses):
    sessions = courses["popularity"].sessions
    assert sessions.shape == (25, 2) and sessions.sum() > 5
    for course in courses.values():
        assert (course.sessions == sessions).all()
        assert not course.seconds[sessions == 0].any()
        assert course.shown >= SLOTS * sessions.sum()
    assert courses["popularity"].seconds.sum() > courses["random"].seconds.sum()


def test_a_session_that_is_seen_under_way_changes_its_pages(courses):
    assert not np.array_equal(courses["funnel"].seconds, courses["without:session"].seconds)


def test_the_same_plan_gives_the_same_course_beside_whatever_else(platform, plan, courses):
    again = simulation.simulate(platform[0], plan, ("funnel",), jobs=2)
    assert np.array_equal(again["funnel"].seconds, courses["funnel"].seconds)


def test_figures_are_seconds_per_session(courses):
    rows = {row["policy"]: row for row in simulation.figures(courses)}
    for name, course in courses.items():
        mean = course.seconds.sum() / course.sessions.sum()
        assert rows[name]["seconds_per_session"] == pytest.approx(mean)
        assert rows[name]["by_week"] == [pytest.approx(mean)]
    lift = rows["funnel"]["over_popularity"]["lift"]
    expected = courses["funnel"].seconds.sum() / courses["popularity"].seconds.sum() - 1
    assert lift == pytest.approx(expected)
    assert "over_popularity" not in rows["popularity"]
    assert simulation.table(list(rows.values())).count("\n") == len(rows) + 1


def test_nothing_that_comes_later_is_popular_yet(platform, plan):
    stage, start_us = simulation.set_up(platform[0], plan)
    log = stage.elsewhere
    assert (np.diff(log.ts) >= 0).all() and log.ts[-1] > start_us
    before = log.ts < start_us
    counts = log.popularity(start_us, len(stage.bundle.catalogue), 24.0).counts[0]
    assert set(np.flatnonzero(counts)) == set(log.video[before & (log.weight > 0)])
    assert stage.past_events["timestamp"].cast(pa.int64()).to_numpy().max() < start_us


def test_what_is_remembered_is_what_the_watch_history_says(platform, plan):
    stage, start_us = simulation.set_up(platform[0], plan)
    arm = Arm.of("funnel", stage, start_us, plan.days)
    for viewer in stage.viewers:
        mine = stage.past_events.filter(pa.compute.equal(stage.past_events["user_id"], viewer.user_id))
        expected = viewer_history(mine, stage.bundle.catalogue, AT, SEEN)
        found = arm.pasts[viewer.user_id].history(start_us)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_allclose(found.strength, expected.strength, rtol=1e-5)
        np.testing.assert_allclose(found.age_s, expected.age_s)


def test_a_past_by_hand():
    past = Past()
    past.add(3, "click", float("nan"), 1 * SECOND)
    past.add(3, "watch", 0.5, 5 * SECOND)
    past.add(7, "not_interested", float("nan"), 4 * SECOND)
    history = past.history(10 * SECOND)
    assert history.rows[0, :3].tolist() == [3, 7, -1]
    assert history.strength[0, :2].tolist() == [0.5, -1]
    assert history.age_s[0, :2].tolist() == [5, 6]


def test_a_batch_has_nobody_twice_and_is_short():
    start = START_US + np.array([0, 10, 20, BATCH_US // 2, 2 * BATCH_US])
    visits = Visits(np.array([1, 2, 1, 3, 2]), start)
    assert [batch.viewer.tolist() for batch in batches(visits)] == [[1, 2], [1, 3], [2]]


def test_only_a_world_can_be_simulated(tmp_path, platform):
    log = tiny_bundle(tmp_path, meta={"source": "kuairand:there"})
    with pytest.raises(ConfigError, match="was trained on kuairand: only a world can answer"):
        simulation.Plan.of(platform[0], str(log.folder), 10, 1, 0)


def test_the_command_prints_a_table(platform, monkeypatch):
    settings, bundle = platform
    monkeypatch.setenv("UPNEXT_HOME", str(settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", "tiny")
    asked = ["--release", str(bundle.folder), "--viewers", "8", "--days", "1", "--jobs", "1"]
    done = CliRunner().invoke(simulate, [*asked, "--policy", "popularity", "--policy", "random"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[2].startswith("| popularity |")
