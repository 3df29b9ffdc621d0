"""Runs and releases against a real MLflow file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from upnext import tracking
from upnext.cli.release import release as command
from upnext.errors import NotFound
from upnext.releases import Releases
from upnext.settings import Settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One MLflow file for all tests: making its tables takes seconds. A blank in the path is on purpose."""
    return tmp_path_factory.mktemp("some home")


@pytest.fixture
def settings(home: Path, request: pytest.FixtureRequest) -> Settings:
    """A data set of its own for each test."""
    return Settings(home=home, dataset=request.function.__name__.removeprefix("test_")[:60])


@pytest.fixture
def releases(settings: Settings, tmp_path: Path) -> Releases:
    """Two registered versions, neither of them promoted."""
    found = Releases(settings)
    for number in (1, 2):
        bundle = tmp_path / f"bundle{number}"
        bundle.mkdir()
        (bundle / "manifest.json").write_text(json.dumps({"number": number}))
        run = tracking.log_run(
            settings, "release", params={}, metrics={}, tags={}, artifacts={"bundle": bundle}
        )
        found.register(run, "bundle", tags={"until": f"2026-06-2{number}"})
    return found


def test_a_run_is_kept_with_all_that_was_said_of_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"123")
    run = tracking.log_run(
        settings,
        "als",
        params={"factors": 128, "delta.events": 7},
        metrics={"ndcg_at_10": 0.25, "lift.watch_time over popularity.low": float("nan")},
        tags={"upnext.step": "als"},
        artifacts={"model": tmp_path / "model"},
    )
    found = tracking.client(settings).get_run(run)
    assert found.info.run_name == "als"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"factors": "128", "delta.events": "7"}
    assert found.data.metrics["ndcg_at_10"] == 0.25
    assert found.data.tags["upnext.step"] == "als"
    kept = settings.home / "artifacts" / settings.dataset
    assert [file.read_bytes() for file in kept.rglob("weights.bin")] == [b"123"]


def test_metrics_have_any_names(settings: Settings) -> None:
    given = {
        "share.context.device=smart tv (lg)": 0.25,
        "share.context.device=tv/": 0.5,
        "a//b/../c:d": 0.75,
        "é" * 300: 1.0,
    }
    run = tracking.log_run(settings, "skew", params={}, metrics=given, tags={})
    assert tracking.client(settings).get_run(run).data.metrics == {
        "share.context.device_smart tv _lg_": 0.25,
        "share.context.device_tv_": 0.5,
        "a__b_.._c_d": 0.75,
        "é" * 250: 1.0,
    }


def test_names_that_become_the_same_are_no_fault(settings: Settings) -> None:
    run = tracking.log_run(settings, "skew", params={}, metrics={"tv (lg)": 1.0, "tv [lg]": 2.0}, tags={})
    assert tracking.client(settings).get_run(run).data.metrics["tv _lg_"] in (1.0, 2.0)


def test_each_data_set_has_one_experiment(settings: Settings) -> None:
    for name in ("als", "two_tower"):
        tracking.log_run(settings, name, params={}, metrics={}, tags={})
    client = tracking.client(settings)
    experiment = client.get_experiment_by_name(f"upnext-{settings.dataset}")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"als", "two_tower"}


def test_two_steps_may_log_the_first_run_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.client(settings)
    look = client.get_experiment_by_name
    answers = [None]  # the other step makes the experiment between this one's look and its own attempt
    monkeypatch.setattr(
        client, "get_experiment_by_name", lambda name: answers.pop() if answers else look(name)
    )
    other = client.create_experiment(f"upnext-{settings.dataset}")
    run = tracking.log_run(settings, "als", params={}, metrics={}, tags={})
    assert client.get_run(run).info.experiment_id == other


def test_a_new_version_is_the_candidate_and_serves_nobody(releases: Releases) -> None:
    assert releases.version("candidate") == "2"
    assert releases.version("champion") is None
    assert [(each.version, each.until, each.aliases) for each in releases.list()] == [
        ("2", "2026-06-22", ("candidate",)),
        ("1", "2026-06-21", ()),
    ]


def test_promoting_keeps_the_champion_before_as_previous(releases: Releases) -> None:
    releases.promote("1")
    assert (releases.version("champion"), releases.version("previous")) == ("1", None)
    releases.promote("2")
    assert (releases.version("champion"), releases.version("previous")) == ("2", "1")
    releases.promote("2")
    assert (releases.version("champion"), releases.version("previous")) == ("2", "1"), (
        "a repeat changes nothing"
    )


def test_what_is_not_registered_cannot_be_promoted(releases: Releases) -> None:
    releases.promote("1")
    with pytest.raises(NotFound, match="release '9' of upnext-what_is_not_registered"):
        releases.promote("9")
    assert releases.version("champion") == "1"


def test_an_alias_a_version_and_a_folder_all_name_a_bundle(releases: Releases, tmp_path: Path) -> None:
    releases.promote("1")
    by_alias, by_version = releases.resolve("champion"), releases.resolve("1")
    assert by_alias == by_version
    assert json.loads((by_alias.path / "manifest.json").read_text()) == {"number": 1}
    assert by_alias.path.is_relative_to(releases._settings.home), "found where it lies, not copied"
    folder = releases.resolve(str(tmp_path / "bundle2"))
    assert (folder.version, folder.path) == ("bundle2", tmp_path / "bundle2")


@pytest.mark.parametrize("ref", ["champion", "7", "no such thing", "../elsewhere"])
def test_what_nobody_released_is_not_found(settings: Settings, ref: str) -> None:
    quiet = Releases(settings)
    assert quiet.version(ref) is None
    with pytest.raises(NotFound, match=r"is not registered, nor a folder .*`upnext cycle"):
        quiet.resolve(ref)


def test_the_command_promotes_lists_and_goes_back(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPNEXT_HOME", str(releases._settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", releases._settings.dataset)

    def upnext(*arguments: str) -> str:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    with pytest.raises(NotFound, match="no previous champion"):
        upnext("rollback")
    upnext("promote", "1")
    upnext("promote", "2")
    assert upnext() == "    2  until 2026-06-22  champion, candidate\n    1  until 2026-06-21  previous\n"
    assert upnext("rollback") == "Version 1 is the champion again.\n"
    assert json.loads(upnext("list", "--json")) == [
        {"version": "2", "until": "2026-06-22", "aliases": ["candidate", "previous"]},
        {"version": "1", "until": "2026-06-21", "aliases": ["champion"]},
    ]
