"""The compiled Kubeflow pipeline is the step table."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from components.kubeflow import behind, kubeflow
from components.pipeline import STEPS
from upnext.errors import ConfigError


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pipeline for an image of one's own."""
    out = tmp_path_factory.mktemp("kfp") / "upnext.yaml"
    options = ["--out", str(out), "--image", "registry.example.org/upnext:1", "--package", "upnext==1"]
    result = CliRunner().invoke(kubeflow, [*options, "--env", "UPNEXT_HOME=/data"], catch_exceptions=False)
    assert result.output == f"{out}: {len(STEPS)} steps\n"
    found: dict[str, Any] = yaml.safe_load(out.read_text())
    return found


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tasks inside and outside of the condition, by the steps' names."""
    inner = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    outer = {name: task for name, task in spec["root"]["dag"]["tasks"].items() if name != "condition-1"}
    return {name.replace("-", "_"): task for name, task in (outer | inner).items()}


def test_every_step_runs_after_what_it_needs(spec) -> None:
    found = tasks(spec)
    assert set(found) == {step.name for step in STEPS}
    outside = {
        need.replace("-", "_") for need in spec["root"]["dag"]["tasks"]["condition-1"]["dependentTasks"]
    }
    for step in STEPS:
        waits = {need.replace("-", "_") for need in found[step.name].get("dependentTasks", ())}
        waits |= outside if step.name in behind("gate") else set()
        assert set(step.needs) <= waits
        assert found[step.name]["inputs"]["parameters"]["step"]["runtimeValue"]["constant"] == step.name


def test_nothing_is_answered_from_kfps_cache(spec) -> None:
    assert all(not task["cachingOptions"].get("enableCache") for task in tasks(spec).values())


def test_what_needs_the_gate_waits_for_its_yes(spec) -> None:
    guard = spec["root"]["dag"]["tasks"]["condition-1"]
    assert guard["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--gate-verdict'] == 'passed'"
    )
    inner = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert list(inner) == behind("gate") == ["index", "release"]


def test_image_packages_and_variables_reach_every_container(spec) -> None:
    executors = spec["deploymentSpec"]["executors"]
    assert len(executors) == len(STEPS)
    for executor in executors.values():
        container = executor["container"]
        assert container["image"] == "registry.example.org/upnext:1"
        assert container["env"] == [{"name": "UPNEXT_HOME", "value": "/data"}]
        assert any("'upnext==1'" in part for part in container["command"])


def test_a_variable_without_a_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--env is 'UPNEXT_HOME': write it as NAME=VALUE"):
        CliRunner().invoke(
            kubeflow, ["--out", str(tmp_path / "x.yaml"), "--env", "UPNEXT_HOME"], catch_exceptions=False
        )
