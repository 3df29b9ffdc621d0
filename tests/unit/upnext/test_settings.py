"""Settings from defaults, variables and the YAML file."""

from pathlib import Path

import pytest

from upnext.errors import ConfigError
from upnext.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("UPNEXT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def configure(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    Path("upnext.yaml").write_text(text)
    monkeypatch.setenv("UPNEXT_CONFIG", "upnext.yaml")


def test_the_defaults_are_local_and_below_home(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.state == Path(".upnext/default")
    assert settings.url("lake") == f"{tmp_path}/.upnext/default/lake"
    assert settings.url("event_log") == f"sqlite:///{tmp_path}/.upnext/default/events.db"
    assert settings.url("online_features") == f"lmdb://{tmp_path}/.upnext/default/online"
    assert settings.url("tracking") == f"sqlite:///{tmp_path}/.upnext/mlflow.db"
    assert not Path(".upnext").exists(), "asking makes nothing"


def test_variables_win_over_the_file_and_the_file_over_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "port: 1234\nhost: 0.0.0.0\ntraining: {als: {factors: 8}}\n")
    monkeypatch.setenv("UPNEXT_PORT", "4321")
    settings = load_settings()
    assert (settings.port, settings.host, settings.history_days) == (4321, "0.0.0.0", 90)  # noqa: S104
    assert settings.training == {"als": {"factors": 8}}
    assert load_settings(port=99).port == 99


def test_an_empty_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("UPNEXT_PORT", "abc", "UPNEXT_PORT is 'abc'"),
        ("UPNEXT_PORT", "0", "UPNEXT_PORT is '0'"),
        ("UPNEXT_PORT", "65536", "UPNEXT_PORT is '65536'"),
        ("UPNEXT_HISTORY_DAYS", "-1", "UPNEXT_HISTORY_DAYS is '-1'"),
        ("UPNEXT_DATASET", "../etc", r"UPNEXT_DATASET is '\.\./etc'.*use up to 64 of a-z"),
        ("UPNEXT_TRAINING", "{no json", "JSON.*training"),
        ("UPNEXT_CONFIG", "nowhere.yaml", "UPNEXT_CONFIG names nowhere.yaml, which is not a file"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: abc", "UPNEXT_PORT is 'abc'"),
        ("colour: red", "UPNEXT_COLOUR is 'red'"),
        ("port: [1", r"UPNEXT_CONFIG names upnext\.yaml, which is no YAML mapping.*line 1"),
        ("- port", "no YAML mapping"),
    ],
)
def test_a_wrong_file_is_told(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    configure(monkeypatch, text)
    with pytest.raises(ConfigError, match=message):
        load_settings()


def test_placeholders_stand_for_the_folders(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dataset="mine", history_url="sqlite:///{home}/x/{state}/{{h}}.db")
    assert settings.url("history") == f"sqlite:///{tmp_path}/x/{tmp_path}/mine/{{h}}.db"


@pytest.mark.parametrize("url", ["{folder}/lake", "{}", "{", "{home.nothing}"])
def test_an_unknown_placeholder_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="UPNEXT_LAKE_URL has a placeholder"):
        Settings(lake_url=url).url("lake")


def test_the_data_set_last_cycled_is_the_default_of_later_commands() -> None:
    active = load_settings().activate("kuairand_pure")
    assert active.state == Path(".upnext/kuairand_pure")
    assert load_settings().state == active.state
    assert Settings(dataset="world").state == Path(".upnext/world"), "naming one wins"
    active.activate("world")
    assert load_settings().state == Path(".upnext/world")


@pytest.mark.parametrize("name", ["", "..", "a/b", "Upper", "-x", "a" * 65, "ü"])
def test_a_data_set_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use up to 64 of a-z"):
        Settings().activate(name)
    assert not Path(".upnext").exists()


def test_the_readme_lists_every_setting_with_its_default() -> None:
    table = (Path(__file__).parents[3] / "README.md").read_text().split("| variable | default | what |")[1]
    untold = [name for name in Settings.model_fields if f"UPNEXT_{name.upper()}`" not in table]
    assert not untold, f"README.md tells nothing about {untold}"
    for name, field in Settings.model_fields.items():
        if name.endswith("_url"):
            (row,) = (row for row in table.splitlines() if f"`UPNEXT_{name.upper()}`" in row)
            assert f"| `{field.default}` |" in row, f"README.md has another default of {name}"
