"""The step ``validate`` behind real ones: a poisoned source stops ``upnext cycle`` before training."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from components import runner
from components.commands import cycle
from components.pipeline import STEPS
from components.quality.rows import MOST_REPEATS
from upnext import tracking
from upnext.errors import SuiteFailed
from upnext.settings import Settings, load_settings
from upnext.stores import connect

START = datetime(2026, 3, 2, tzinfo=UTC)
LENGTH = 30_000
EVENTS = 1_000
REASON = f"watch_duration_ms is more than {MOST_REPEATS} times the video's length"


def source(folder: Path, poisoned: int) -> str:
    """Six days of watches by 20 viewers, some of them of a thousand times the video's length."""
    rng = np.random.default_rng(0)
    played = rng.integers(1_000, LENGTH, EVENTS)
    played[:poisoned] = 1_000 * LENGTH
    events = pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in rng.integers(0, 20, EVENTS)],
            "video_id": [f"v{video}" for video in rng.integers(0, 30, EVENTS)],
            "event_type": "watch",
            "timestamp": [START + timedelta(seconds=int(at)) for at in rng.integers(0, 6 * 86_400, EVENTS)],
            "watch_duration_ms": played,
        }
    )
    folder.mkdir()
    events.to_parquet(folder / "events.parquet")
    videos = pd.DataFrame({"video_id": [f"v{video}" for video in range(30)], "duration_ms": LENGTH})
    videos.to_parquet(folder / "videos.parquet")
    return f"files:{folder}"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home of its own, with every step run in this process but the one that nothing here needs."""
    monkeypatch.setenv("UPNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(runner, "start_step", runner.run_step)
    monkeypatch.setattr(runner, "STEPS", [step for step in STEPS if step.name != "materialise"])
    return load_settings()


def test_a_poisoned_source_stops_the_cycle_before_training(settings: Settings, tmp_path: Path) -> None:
    data = source(tmp_path / "poisoned", EVENTS // 4)
    said = CliRunner().invoke(cycle, ["--data", data])
    assert isinstance(said.exception, SuiteFailed)
    assert re.search(r"suite tables: .* of refused_share: expected .*at most 0\.1", str(said.exception))
    assert f"{EVENTS // 4} rows in quarantine, events: {REASON}" in " ".join(said.stderr.split())
    (run,) = settings.state.glob("runs/*Z")
    done = sorted(folder.name for folder in run.iterdir())
    assert done == ["examples", "features", "ingest", "skew", "validate", "visual"]
    assert runner.Report.read(run / "validate") is None, "it did not finish"
    client = tracking.client(settings)
    experiment = client.get_experiment_by_name(f"upnext-{settings.state.name}")
    (tracked,) = [
        each
        for each in client.search_runs([experiment.experiment_id])
        if each.data.tags["upnext.step"] == "validate"
    ]
    assert tracked.data.metrics["refused_share"] == 0.25
    index = run / "validate" / "documents" / "index.html"
    assert f"{index} shows all of it" in str(said.exception)
    assert "refused_share" in index.read_text()


def test_few_bad_rows_are_quarantined_and_the_data_goes_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = {}
    monkeypatch.setattr(
        "upnext.tracking.log_run", lambda _, name, **kept: logged.update({name: kept}) or "run"
    )
    data, until = source(tmp_path / "good", 20), START + timedelta(days=6)
    own = settings.activate("good")
    for name in ("ingest", "visual", "features", "skew", "examples", "validate"):
        report = runner.run_step(own, name, data, until)
    assert report.metrics["refused_share"] == pytest.approx(20 / EVENTS)
    assert report.metrics["quarantined"] == 0, "ingest had moved them already"
    assert report.metrics["expectations"] > 50
    index = Path(report.details["documents"])
    assert index.is_file()
    assert index.is_relative_to(own.state.absolute())
    kept = {name: folder.absolute() for name, folder in logged["validate"]["artifacts"].items()}
    assert kept == {"documents": index.parent}
    with connect(own) as stores:
        assert stores.lake.read("quarantine")["reason"].to_pylist() == [REASON] * 20
        assert stores.lake.scan("events").count_rows() == EVENTS - 20
