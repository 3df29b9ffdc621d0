"""One interval, three schedulers, the same figures: Airflow, Kubeflow's local runner and ``upnext cycle``."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from components.pipeline import STEPS
from components.runner import Report

SOURCE = "world:users=60,videos=80,days=6"
UNTIL = "2026-06-07T00:00:00+00:00"
TRAINING = {"two_tower": {"epochs": 1}, "ranker": {"epochs": 1}}
ROOT = Path(__file__).parents[2]

CYCLE = """
import os, sys
from upnext.cli.main import main
sys.argv = ["upnext", "cycle", "--data", os.environ["SOURCE"], "--until", os.environ["UNTIL"]]
main()
"""
AIRFLOW = """
import json, os, sys
sys.path.insert(0, os.environ["DAGS"])
from datetime import UTC, datetime
from airflow.utils.db import initdb
import upnext_cycle
initdb()
conf = {"data": os.environ["SOURCE"], "until": os.environ["UNTIL"]}
run = upnext_cycle.cycle.test(logical_date=datetime(2026, 6, 7, tzinfo=UTC), run_conf=conf)
print(json.dumps({task.task_id: str(task.state) for task in run.get_task_instances()}))
"""
KUBEFLOW = """
import os
from kfp import local
from components.kubeflow import pipeline
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=os.environ["UPNEXT_HOME"] + "/kfp")
pipeline(conditional=False)(data=os.environ["SOURCE"], until=os.environ["UNTIL"])
"""
PROGRAMS = {"cycle": CYCLE, "airflow": AIRFLOW, "kubeflow": KUBEFLOW}

# Stands in for `upnext` where only the wiring is looked at: the gate says no.
REFUSING = """#!/bin/sh
echo "$2" >> "$UPNEXT_HOME/called"
case $2 in
    gate) passed=0 ;;
    index | release) exit 7 ;;
    *) passed=1 ;;
esac
echo "{\\"until\\": \\"$UNTIL\\", \\"metrics\\": {\\"passed\\": $passed}}"
"""


def start(program: str, home: Path, path: Path | None = None) -> subprocess.Popen[str]:
    """Run one of the programs in a process and a home of its own; its output goes to ``home/output``."""
    home.mkdir()
    places = [str(path)] if path else []
    env = os.environ | {
        "UPNEXT_HOME": str(home),
        "UPNEXT_TRAINING": json.dumps(TRAINING),
        "SOURCE": SOURCE,
        "UNTIL": UNTIL,
        "DAGS": str(ROOT / "dags"),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([*places, str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with (home / "output").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAMS[program]],
            env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def finish(children: Mapping[str, subprocess.Popen[str]], homes: Path) -> dict[str, str]:
    """What each program printed; fails with it if one did not end well."""
    try:
        codes = {name: child.wait(timeout=900) for name, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
    said = {name: (homes / name / "output").read_text() for name in children}
    for name, code in codes.items():
        assert code == 0, f"{name}:\n{said[name][-6000:]}"
    return said


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three homes in which the interval was run, by each scheduler at the same time."""
    homes = tmp_path_factory.mktemp("homes")
    finish({name: start(name, homes / name) for name in PROGRAMS}, homes)
    return homes


def report(homes: Path, scheduler: str, step: str) -> Report | None:
    (run,) = (homes / scheduler).glob("world*/runs/2026-06-07T000000Z")
    return Report.read(run / step)


@pytest.mark.parametrize("step", [step.name for step in STEPS])
def test_every_scheduler_gives_the_same_figures(homes: Path, step: str) -> None:
    found = {name: report(homes, name, step) for name in PROGRAMS}
    assert None not in found.values(), f"{step} did not run everywhere: {found}"
    said = {name: (each.metrics, each.params, each.data_versions) for name, each in found.items() if each}
    assert said["airflow"] == said["cycle"]
    assert said["kubeflow"] == said["cycle"]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Two homes in which the gate said no, and what the schedulers printed."""
    homes = tmp_path_factory.mktemp("refused")
    program = homes / "bin" / "upnext"
    program.parent.mkdir()
    program.write_text(REFUSING)
    program.chmod(0o755)
    names = ("airflow", "kubeflow")
    return homes, finish({name: start(name, homes / name, program.parent) for name in names}, homes)


def test_airflow_skips_what_the_gate_refused_and_the_run_is_a_success(
    refused: tuple[Path, dict[str, str]],
) -> None:
    states = json.loads(refused[1]["airflow"].splitlines()[-1])
    skipped = {"index": "skipped", "release": "skipped"}
    assert states == {step.name: "success" for step in STEPS} | skipped


@pytest.mark.parametrize("scheduler", ["airflow", "kubeflow"])
def test_every_step_is_called_after_what_it_needs(
    refused: tuple[Path, dict[str, str]], scheduler: str
) -> None:
    called = (refused[0] / scheduler / "called").read_text().split()
    assert len(called) == len(set(called))
    for step in STEPS:
        before = called[: called.index(step.name)] if step.name in called else called
        assert set(step.needs) <= set(before)
    assert set(called) >= {step.name for step in STEPS} - {"index", "release"}
