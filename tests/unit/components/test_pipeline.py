"""The step table: every step is there, after what it needs."""

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.pipeline import STEPS, Job, find, up_to
from upnext.errors import ConfigError
from upnext.settings import Settings


def test_every_step_comes_after_what_it_needs() -> None:
    seen: set[str] = set()
    for step in STEPS:
        assert set(step.needs) <= seen, f"{step.name} comes before one of {step.needs}"
        assert step.name not in seen
        seen.add(step.name)


def test_only_the_first_step_needs_nothing() -> None:
    assert [step.name for step in STEPS if not step.needs] == ["ingest"]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_function_takes_a_job_and_is_described(step) -> None:
    function = step.load()
    assert list(inspect.signature(function).parameters) == ["job"]
    assert function.__doc__
    assert step.about


def test_every_setting_that_a_step_reads_is_named() -> None:
    """Else a changed one would be taken for done. ``training`` needs no naming: it is told by step."""
    read = {name for step in STEPS for name in step.settings}
    assert read <= set(Settings.model_fields)
    folder = Path(inspect.getfile(find)).parent
    files = [file for file in folder.rglob("*.py") if file.name != "commands.py"]
    found = {name for file in files for name in re.findall(r"settings\.(\w+)", file.read_text())}
    assert found & set(Settings.model_fields) - {"training"} == read


def test_what_a_step_needs_is_run_before_it_and_nothing_else() -> None:
    names = [step.name for step in up_to("als")]
    assert names == ["ingest", "visual", "features", "skew", "examples", "validate", "als"]
    assert [step.name for step in up_to("ingest")] == ["ingest"]
    release = ["ingest", "visual", "features", "skew", "examples", "validate", "als", "two_tower", "ranker"]
    assert [step.name for step in up_to("release")] == [*release, "blend", "gate", "index", "release"]
    with pytest.raises(ConfigError, match="step is 'tarin'"):
        up_to("tarin")


def test_an_unknown_step_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"step is 'tarin': it is one of ingest, visual, features"):
        find("tarin")


def test_a_job_finds_the_output_of_earlier_steps_beside_its_own(tmp_path: Path) -> None:
    until = datetime(2026, 6, 22, tzinfo=UTC)
    job = Job(Settings(home=tmp_path), "world:", until, tmp_path / "runs" / "x" / "als")
    assert job.input("examples") == tmp_path / "runs" / "x" / "examples"
    assert job.end == until


def test_a_step_that_needs_the_intervals_end_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--until is missing"):
        _ = Job(Settings(home=tmp_path), "world:", None, tmp_path).end
