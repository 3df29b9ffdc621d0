"""The DAGs: light to read, wired as the step table says, and on schedules that never meet."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.pipeline import BY_NAME, STEPS
from upnext.errors import CandidateRefused

DAGS = Path(__file__).parents[3] / "dags"
READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
import upnext_cycle
HEAVY = {"torch", "mlflow", "feast", "pyarrow", "numpy", "pandas", "duckdb", "faiss", "kfp", "bentoml"}
describe = lambda dag: {
    "schedule": dag.timetable.expression,
    "catchup": dag.catchup,
    "runs": dag.max_active_runs,
    "params": dag.params.dump(),
    "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
    "commands": {task.task_id: task.bash_command for task in dag.tasks},
    "skips": [list(task.skip_on_exit_code) for task in dag.tasks],
    "retries": [task.retries for task in dag.tasks],
}
dags = {dag.dag_id: describe(dag) for dag in (upnext_cycle.cycle, upnext_cycle.hourly)}
print(json.dumps({"dags": dags, "heavy": sorted(HEAVY & set(sys.modules))}))
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both DAGs as a scheduler reads them, in a process of its own: Airflow sets up its home on import."""
    home = tmp_path_factory.mktemp("airflow")
    env = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "UPNEXT_DATA": "world:",
    }
    out = subprocess.run(
        [sys.executable, "-c", READ, str(DAGS)], env=env, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_reading_them_imports_no_heavy_library(read) -> None:
    assert read["heavy"] == []


def test_the_cycle_has_every_step_behind_what_it_needs(read) -> None:
    assert read["dags"]["upnext_cycle"]["tasks"] == {step.name: sorted(step.needs) for step in STEPS}


def test_the_hourly_one_refreshes_the_features(read) -> None:
    tasks = read["dags"]["upnext_hourly"]["tasks"]
    assert list(tasks) == ["ingest", "visual", "features", "materialise"]
    assert tasks == {name: sorted(BY_NAME[name].needs) for name in tasks}


def test_both_together_run_every_hour_and_never_at_once(read) -> None:
    six, hourly = (read["dags"][name]["schedule"] for name in ("upnext_cycle", "upnext_hourly"))
    assert six == "0 */6 * * *"
    minute, hours, *rest = hourly.split()
    spans = [tuple(map(int, span.split("-"))) for span in hours.split(",")]
    assert (minute, rest) == ("0", ["*", "*", "*"])
    assert {hour for low, high in spans for hour in range(low, high + 1)} == set(range(24)) - {0, 6, 12, 18}


@pytest.mark.parametrize("name", ["upnext_cycle", "upnext_hourly"])
def test_one_run_at_a_time_none_for_the_past_and_new_attempts(read, name: str) -> None:
    dag = read["dags"][name]
    assert (dag["catchup"], dag["runs"]) == (False, 1)
    assert set(dag["retries"]) == {2}
    assert dag["params"] == {"data": "world:", "until": None, "force": False}


def test_a_task_is_its_steps_command_and_is_skipped_when_the_gate_refused(read) -> None:
    dag = read["dags"]["upnext_cycle"]
    for name, command in dag["commands"].items():
        assert (
            command == f'upnext step {name} --data "$DATA" ${{UNTIL:+--until "$UNTIL"}} ${{FORCE:+--force}}'
        )
    assert dag["skips"] == [[CandidateRefused.exit_code]] * len(STEPS)
