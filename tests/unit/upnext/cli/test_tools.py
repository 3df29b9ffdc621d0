"""What Airflow and MLflow are started with."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from upnext.cli import supervise, tools
from upnext.errors import ConfigError
from upnext.settings import Settings


def test_airflow_keeps_its_state_in_our_home_and_to_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = tools.airflow_env(Settings(home=Path("state")), 8123, "kuairand:/data")
    assert env["AIRFLOW_HOME"] == str(tmp_path / "state" / "airflow")
    assert env["UPNEXT_HOME"] == str(tmp_path / "state"), "absolute: a task starts elsewhere"
    assert (env["AIRFLOW__API__HOST"], env["AIRFLOW__API__PORT"]) == ("127.0.0.1", "8123")
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert env["UPNEXT_DATA"] == "kuairand:/data"
    assert Path(env["PATH"].split(os.pathsep)[0], "upnext").exists(), "tasks call it by name"
    assert (Path(env["AIRFLOW__CORE__DAGS_FOLDER"]) / "upnext_cycle.py").is_file()


def test_a_variable_of_ones_own_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "8")
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    env = tools.airflow_env(Settings(home=tmp_path), 8080, "log:")
    assert env["AIRFLOW__CORE__PARALLELISM"] == "8"
    assert env["AIRFLOW_HOME"] == str(tmp_path / "airflow"), "but our state stays in our home"


def test_without_a_checkout_there_are_no_dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import upnext

    monkeypatch.setattr(upnext, "__file__", str(tmp_path / "site-packages" / "upnext" / "__init__.py"))
    with pytest.raises(ConfigError, match=r"the DAGs are not in .*: run this from a checkout"):
        tools.dags_folder()


def test_mlflow_opens_the_store_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Sequence[str]] = {}

    def note(commands: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> None:
        started.update(commands)

    monkeypatch.setattr(supervise, "supervise", note)
    monkeypatch.setenv("UPNEXT_HOME", str(tmp_path))
    result = CliRunner().invoke(tools.mlflow, ["--port", "5123"], catch_exceptions=False)
    assert "http://127.0.0.1:5123" in result.output
    (command,) = started.values()
    assert list(command[:4]) == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert (options["--host"], options["--port"]) == ("127.0.0.1", "5123")
    assert options["--backend-store-uri"] == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_tracking_server_has_its_own_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPNEXT_HOME", str(tmp_path))
    monkeypatch.setenv("UPNEXT_TRACKING_URL", "https://mlflow.example.org")
    with pytest.raises(ConfigError, match="that server has its own page"):
        CliRunner().invoke(tools.mlflow, [], catch_exceptions=False)
