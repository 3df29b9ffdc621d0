"""``upnext doctor``."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.redis_server import redis_server
from upnext.cli.doctor import NOT_YET, doctor
from upnext.settings import Settings
from upnext.stores import ADAPTERS, connect

Doctor = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UPNEXT_CONFIG", raising=False)

    def run(*arguments: str, **variables: str) -> Result:
        environment = {"UPNEXT_HOME": str(tmp_path / "home"), "UPNEXT_DATASET": "mine"} | variables
        return CliRunner().invoke(doctor, arguments, env=environment, catch_exceptions=False)

    return run


def ports(result: Result) -> dict[str, dict[str, Any]]:
    return {found["port"]: found for found in json.loads(result.stdout)["ports"]}


def test_a_home_that_does_not_exist_is_not_made(run: Doctor, tmp_path: Path) -> None:
    result = run("--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (report["home"], report["dataset"], report["answers"]) == (str(tmp_path / "home"), "mine", True)
    assert list(ports(result)) == [*ADAPTERS, "tracking"]
    assert all(found["answers"] and found["said"] == NOT_YET for found in ports(result).values())
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_asked(run: Doctor, tmp_path: Path) -> None:
    with connect(Settings(home=tmp_path / "home", dataset="mine")) as stores:
        for port in ("event_log", "history", "catalogue", "online_features"):
            stores.open(port)
    result = run("--json")
    said = {port: found["said"] for port, found in ports(result).items()}
    assert result.exit_code == 0
    assert said["event_log"].startswith("SQLite 3.")
    assert said["history"].endswith("90 days")
    assert said["profiles"] == said["catalogue"]
    assert said["online_features"].startswith("LMDB 0.9")
    assert said["lake"] == said["tracking"] == NOT_YET
    assert all(found["ms"] >= 0 for found in ports(result).values())


def test_the_table_shows_every_port(run: Doctor) -> None:
    result = run(COLUMNS="200")
    assert result.exit_code == 0
    for port in (*ADAPTERS, "tracking"):
        assert port in result.stdout
    assert NOT_YET in result.stdout and "lmdb://" in result.stdout


def test_one_that_does_not_answer_is_shown_and_exits_with_1(run: Doctor, tmp_path: Path) -> None:
    (tmp_path / "home" / "mine").mkdir(parents=True)
    (tmp_path / "home" / "mine" / "events.db").write_bytes(b"not a database at all, and long enough" * 100)
    result = run("--json", UPNEXT_HISTORY_URL="cassandra://me:secret@host/space")
    found = ports(result)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["answers"] is False
    assert "no readable SQLite database" in found["event_log"]["said"]
    assert found["history"]["url"] == "cassandra://me:***@host/space"
    assert "nothing here speaks 'cassandra'" in found["history"]["said"]
    assert "secret" not in result.stdout
    assert [port for port, one in found.items() if not one["answers"]] == ["event_log", "history"]


def test_a_tracking_server_is_reached_for(run: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "accepts connections" in ports(run("--json", UPNEXT_TRACKING_URL=url))["tracking"]["said"]
    result = run("--json", UPNEXT_TRACKING_URL=url)
    assert result.exit_code == 1
    assert "does not answer" in ports(result)["tracking"]["said"]


def test_redis_is_asked_and_its_password_hidden(run: Doctor) -> None:
    with redis_server(password="secret") as server:
        result = run("--json", UPNEXT_ONLINE_FEATURES_URL=server.url())
    found = ports(result)["online_features"]
    assert found["answers"] and found["said"].startswith("Redis ")
    assert "secret" not in result.stdout
