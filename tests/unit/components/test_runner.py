"""The runner, over a table of four small steps: ingest -> train -> gate -> release."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components import pipeline, runner
from components.pipeline import Outcome, Step
from upnext.errors import CandidateRefused, EmptyData, MissingData, SuiteFailed
from upnext.settings import Settings

T = datetime(2026, 6, 22, 6, tzinfo=UTC)
Run = Callable[..., runner.Report]

STEPS = """
from components.pipeline import Outcome
state = {"version": 3, "passed": 1.0, "calls": []}

def ingest(job):
    state["calls"].append("ingest")
    until = job.until.isoformat() if job.until else "2026-06-22T06:00:00+00:00"
    return Outcome(data_versions={"events": state["version"]}, details={"until": until})

def train(job):
    state["calls"].append("train")
    assert job.input("ingest").is_dir() and not list(job.out.iterdir())
    (job.out / "model").write_text("weights")
    return Outcome(metrics={"loss": 0.5, "lift": float("nan")}, params={"lr": 0.1})

def gate(job):
    state["calls"].append("gate")
    return Outcome(metrics={"passed": state["passed"]}, details={"reasons": ["worse"]})

def release(job):
    state["calls"].append("release")
    return Outcome()

def broken(job):
    (job.out / "half").write_text("half")
    raise RuntimeError("out of luck")
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The four steps' module; its ``state`` says what they answer and who was called."""
    (tmp_path / "fake_steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    table = (
        Step("ingest", "fake_steps:ingest", (), ""),
        Step("train", "fake_steps:train", ("ingest",), ""),
        Step("gate", "fake_steps:gate", ("train",), ""),
        Step("release", "fake_steps:release", ("gate",), ""),
        Step("broken", "fake_steps:broken", ("ingest",), ""),
    )
    monkeypatch.setattr(pipeline, "BY_NAME", {step.name: step for step in table})
    monkeypatch.setattr(runner, "STEPS", table[:4])
    import fake_steps

    yield fake_steps
    del sys.modules["fake_steps"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", dataset="world")


@pytest.fixture
def run(settings: Settings) -> Run:
    def run(name: str, until: datetime | None = T, force: bool = False, **training) -> runner.Report:
        own = settings.model_copy(update={"training": training})
        return runner.run_step(own, name, "world:", until, force)

    return run


def test_a_step_whose_inputs_have_not_changed_is_not_run_again(fake, run: Run) -> None:
    run("ingest")
    first, second = run("train"), run("train")
    assert fake.state["calls"] == ["ingest", "train"]
    assert (first.fresh, second.fresh) == (True, False)
    assert second.metrics == {"loss": 0.5}


def test_ingest_always_looks_whether_there_is_more(fake, run: Run) -> None:
    run("ingest")
    run("ingest")
    assert fake.state["calls"] == ["ingest", "ingest"]


def test_force_runs_what_is_done_already(fake, run: Run) -> None:
    run("ingest")
    run("train")
    assert run("train", force=True).fresh
    assert fake.state["calls"].count("train") == 2


def test_changed_settings_run_a_step_and_those_after_it_again(fake, run: Run) -> None:
    for name in ("ingest", "train", "gate"):
        run(name)
    assert run("train", train={"lr": 0.2}).fresh
    assert run("gate", train={"lr": 0.2}).fresh
    assert not run("gate", train={"lr": 0.2}, other={"lr": 1}).fresh


def test_a_changed_setting_runs_those_again_that_read_it(
    fake, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ("skew_threshold", "visual_backbone")
    table = {**pipeline.BY_NAME, "train": replace(pipeline.BY_NAME["train"], settings=read)}
    monkeypatch.setattr(pipeline, "BY_NAME", table)

    def fresh(**changed: object) -> list[str]:
        own = settings.model_copy(update=changed)
        return [name for name in ("train", "gate") if runner.run_step(own, name, "world:", T).fresh]

    runner.run_step(settings, "ingest", "world:", T)
    assert fresh() == ["train", "gate"]
    assert fresh(near_cache_mb=1) == []
    assert fresh(skew_threshold=0.5) == ["train", "gate"]
    network = tmp_path / "net.onnx"
    network.write_bytes(b"one")
    assert fresh(visual_backbone=network) == ["train", "gate"]
    assert fresh(visual_backbone=network) == []
    network.write_bytes(b"another")
    assert fresh(visual_backbone=network) == ["train", "gate"]


def test_a_new_version_of_the_data_runs_every_step_again(fake, run: Run) -> None:
    for name in ("ingest", "train", "gate"):
        run(name)
    run("ingest")
    assert not run("train").fresh, "the same version is the same data"
    fake.state["version"] = 4
    run("ingest")
    assert run("train").fresh
    assert run("gate").fresh


def test_a_missing_input_names_the_step_to_run(fake, run: Run) -> None:
    with pytest.raises(MissingData, match=r"step train needs the output of ingest, .*`upnext step ingest`"):
        run("train")


def test_what_a_failed_step_left_does_not_count_as_done(fake, run: Run, settings: Settings) -> None:
    run("ingest")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of luck"):
            run("broken")
    assert runner.Report.read(runner.run_folder(settings, T) / "broken") is None


def test_nothing_that_needs_a_refused_candidate_runs(fake, run: Run) -> None:
    fake.state["passed"] = 0.0
    for name in ("ingest", "train", "gate"):
        run(name)
    with pytest.raises(
        CandidateRefused, match=r"release does not run: gate refused .*metrics\.json says why"
    ):
        run("release", force=True)
    assert "release" not in fake.state["calls"]


def test_a_cycle_ends_at_a_refusal(fake, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "start_step", runner.run_step)
    assert [report.step for report in runner.cycle(settings, "world:", T)][-1] == "release"
    fake.state.update(passed=0.0, version=4)
    assert [report.step for report in runner.cycle(settings, "world:", T)][-1] == "gate"


def test_a_cycle_of_all_there_is_takes_its_end_from_ingest(
    fake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "start_step", runner.run_step)
    reports = runner.cycle(settings, "world:")
    assert {report.until for report in reports} == {T.isoformat()}
    folder = settings.state / "runs" / "2026-06-22T060000Z"
    assert sorted(each.name for each in folder.iterdir()) == ["gate", "ingest", "release", "train"]
    assert not (settings.state / "runs" / "unknown" / "ingest").exists()


def test_an_intervals_folder_is_named_by_its_end_in_utc(settings: Settings) -> None:
    assert runner.run_folder(settings, T).name == "2026-06-22T060000Z"
    assert runner.run_folder(settings, datetime.fromisoformat("2026-06-22T08:00:00+02:00")).name == (
        "2026-06-22T060000Z"
    )
    assert runner.run_folder(settings, None).name == "unknown"


def test_the_newest_interval_is_the_one_to_go_on_with(fake, run: Run, settings: Settings) -> None:
    with pytest.raises(MissingData, match="nothing was ingested"):
        runner.last_interval(settings)
    run("ingest", datetime(2026, 6, 23, tzinfo=UTC))
    run("ingest", T)
    assert runner.last_interval(settings) == datetime(2026, 6, 23, tzinfo=UTC)


def test_the_report_on_disk_is_the_one_that_was_given(fake, run: Run, settings: Settings) -> None:
    run("ingest")
    given = run("train")
    assert runner.Report.read(runner.run_folder(settings, T) / "train") == given
    assert given.metrics == {"loss": 0.5}, "a figure that nobody has is left out"
    assert given.params == {"lr": 0.1}
    assert given.seconds >= 0
    assert given.peak_memory_mb > 0


@pytest.mark.parametrize("text", ["", '{"step": "train"', '{"step": "train", "of_another_version": 1}'])
def test_a_report_that_cannot_be_read_is_of_no_finished_step(
    fake, run: Run, settings: Settings, text: str
) -> None:
    run("ingest")
    run("train")
    file = runner.run_folder(settings, T) / "train" / "metrics.json"
    file.write_text(text)
    with pytest.raises(MissingData, match="needs the output of train"):
        run("gate")
    assert run("train").fresh


def test_two_runs_of_one_step_wait_for_each_other(fake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("ingest")
    entered, both = threading.Event(), threading.Barrier(2, timeout=0.3)

    def train(job: pipeline.Job) -> Outcome:
        entered.set()
        with pytest.raises(threading.BrokenBarrierError):
            both.wait()  # nobody else comes in meanwhile
        return Outcome()

    monkeypatch.setattr(fake, "train", train)
    other = threading.Thread(target=run, args=("train",))
    other.start()
    entered.wait()
    assert not run("train").fresh, "the second finds the first one's work"
    other.join()


def test_a_step_in_its_own_process_hands_on_its_exit_code(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPNEXT_HOME", str(settings.home))
    missing = tmp_path / "nowhere"
    with pytest.raises(runner.StepFailed, match="step ingest failed, exit code 3") as caught:
        runner.start_step(settings, "ingest", f"files:{missing}", None, False)
    assert caught.value.exit_code == EmptyData.exit_code
    assert str(missing) in capfd.readouterr().err


def test_a_step_that_was_killed_fails_with_an_exit_code_that_a_shell_can_show() -> None:
    assert runner.StepFailed("als", -9).exit_code == 1


def test_peak_memory_is_the_processs_own() -> None:
    held = np.ones(40_000_000)  # 305 MiB in this process
    code = "import json; from components.runner import peak_memory_mb; print(json.dumps(peak_memory_mb()))"
    child = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert 5 < json.loads(child.stdout) < 200
    assert runner.peak_memory_mb() > held.nbytes / 2**20


def test_a_tracked_run_names_the_tables_that_it_goes_back_to(
    fake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = {}

    def log_run(_: Settings, name: str, **kept: object) -> str:
        logged[name] = kept
        return "run"

    monkeypatch.setattr("upnext.tracking.log_run", log_run)
    table = {**pipeline.BY_NAME, "train": replace(pipeline.BY_NAME["train"], tracked=True)}
    monkeypatch.setattr(pipeline, "BY_NAME", table)
    runner.run_step(settings, "ingest", "world:", T)
    runner.run_step(settings, "train", "world:", T)
    assert logged["train"]["params"] == {"lr": 0.1, "delta.events": 3}
    assert logged["train"]["tags"]["upnext.source"] == "world:"


def test_a_refused_run_is_tracked_and_not_done(
    fake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = []
    monkeypatch.setattr("upnext.tracking.log_run", lambda _, name, **kept: logged.append((name, kept)))
    table = {**pipeline.BY_NAME, "train": replace(pipeline.BY_NAME["train"], tracked=True)}
    monkeypatch.setattr(pipeline, "BY_NAME", table)
    unfit = Outcome(metrics={"refused_share": 0.5}, refused=SuiteFailed("unfit"))
    monkeypatch.setattr(fake, "train", lambda job: unfit)
    runner.run_step(settings, "ingest", "world:", T)
    for times in (1, 2):
        with pytest.raises(SuiteFailed, match="unfit"):
            runner.run_step(settings, "train", "world:", T)
        assert [name for name, _ in logged] == ["train"] * times
    assert logged[0][1]["metrics"]["refused_share"] == 0.5
    assert runner.Report.read(runner.run_folder(settings, T) / "train") is None
    with pytest.raises(MissingData, match="needs the output of train"):
        runner.run_step(settings, "gate", "world:", T)


def test_a_run_without_figures_is_not_tracked(
    fake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**pipeline.BY_NAME, "train": replace(pipeline.BY_NAME["train"], tracked=True)}
    monkeypatch.setattr(pipeline, "BY_NAME", table)
    monkeypatch.setattr(fake, "train", lambda job: Outcome(details={"left_out": {}}))
    monkeypatch.setattr("upnext.tracking.log_run", lambda *_, **__: pytest.fail("tracked"))
    runner.run_step(settings, "ingest", "world:", T)
    assert runner.run_step(settings, "train", "world:", T).fresh
