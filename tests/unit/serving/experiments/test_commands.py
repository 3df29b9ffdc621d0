"""The command line: a definition is started, listed, ramped up, read out and stopped."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from click.testing import CliRunner

from serving.experiments.commands import experiment
from upnext.contracts import EVENTS, EXPOSURES
from upnext.errors import ConfigError, NotFound
from upnext.settings import load_settings
from upnext.stores import connect

TEXT = """
name: fresher-home
layer: ranking
range: [0, 0.5]
ramp: {ramp}
variants:
  - {{name: control, weight: 0.5}}
  - {{name: fresher, weight: 0.5, parameters: {{{parameters}}}}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UPNEXT_HOME", str(tmp_path / "home"))


@pytest.fixture
def call(tmp_path):
    def call(*arguments):
        done = CliRunner().invoke(experiment, arguments)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return call


@pytest.fixture
def file(tmp_path):
    def file(ramp=0.2, parameters="rules.fresh_strength: 0.05"):
        path = tmp_path / "experiment.yaml"
        path.write_text(TEXT.format(ramp=ramp, parameters=parameters))
        return str(path)

    return file


def test_from_start_to_stop(call, file):
    assert "No experiment" in call("list")
    assert "fresher-home runs from" in call("start", file())
    assert "10.00% of layer ranking, of them control 50%, fresher 50%" in call("status")
    call("holdout", "0.05")
    call("start", file(ramp=0.4))
    told = json.loads(call("list", "--json"))
    assert told["experiments"][0]["ramp"] == 0.4 and told["holdouts"] == {"": 0.05}
    assert "ended" not in call("list")
    call("stop", "fresher-home")
    assert "ended" in call("list") and "held out of all experiments: 5.00%" in call("list")
    with pytest.raises(ConfigError, match="give a new name"):
        call("start", file(ramp=0.5))


def test_a_rule_that_is_switched_off_may_be_ramped_up(call, file):
    for ramp in (0.2, 0.4):
        assert "fresher" in call("start", file(ramp, parameters="rules.off: [explore, boost_fresh]"))


def test_what_is_wrong_is_said_before_anything_is_stored(call, file):
    with pytest.raises(ConfigError, match=r"no parameter is called 'rules\.freshness'"):
        call("start", file(parameters="rules.freshness: 1"))
    with pytest.raises(NotFound, match=r"release '7' of .* is not registered"):
        call("start", file(parameters='release: "7"'))
    with pytest.raises(NotFound, match="no experiment is called 'other': there are none"):
        call("stop", "other")
    assert "No experiment" in call("list")


def test_a_readout_as_table_and_json(call, file):
    call("start", file())
    at = datetime.now(UTC) + timedelta(minutes=1)
    day = f"{at:%Y-%m-%d}"
    users = [(f"u{i}", ("control", "fresher")[i % 2]) for i in range(300)]
    exposures = [(day, "fresher-home", user, variant, at) for user, variant in users]
    events = [
        {"event_id": user + kind, "user_id": user, "event_type": kind, "video_id": "v", "timestamp": at}
        | {"watch_duration_ms": 1_000 * (i % 60 + 1) if kind == "watch" else None}
        for i, (user, _) in enumerate(users)
        for kind in ("impression", "watch")
    ]
    with connect(load_settings()) as stores:
        rows = [dict(zip(EXPOSURES.names, row, strict=True)) for row in exposures]
        stores.lake.append("exposures", pa.Table.from_pylist(rows, schema=EXPOSURES), ["date"])
        table = pa.Table.from_pylist(events, schema=EVENTS)
        stores.lake.append("events", table.append_column("date", [[day] * len(table)]), ["date"])
    report = json.loads(call("status", "fresher-home", "--json"))
    assert report["units"] == {"control": 150, "fresher": 150}
    assert report["verdict"]["decision"] == "go on"
    by_metric = {each["metric"]: each for each in report["effects"]}
    assert by_metric["watch_s"]["control_mean"] == pytest.approx(30.0)
    assert by_metric["retention"]["difference"] is None
    text = call("status", "fresher-home")
    assert "control 150, fresher 150" in text and "go on: the always-valid interval of watch_s" in text
