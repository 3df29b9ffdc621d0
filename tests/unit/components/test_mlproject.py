"""mlflow/: the project's entry points are commands that exist, and the folder hides no package."""

import re
from pathlib import Path

import pytest
import yaml

from upnext.cli.main import LazyGroup

FOLDER = Path(__file__).parents[3] / "mlflow"
PROJECT = yaml.safe_load((FOLDER / "MLproject").read_text())


@pytest.mark.parametrize("name", PROJECT["entry_points"])
def test_an_entry_point_calls_a_command_with_options_that_it_has(name: str) -> None:
    entry = PROJECT["entry_points"][name]
    found = re.fullmatch(r"cd \.\. && python -m upnext\.cli\.main (\w+) ?(.*)", entry["command"])
    assert found is not None
    command = LazyGroup().get_command(None, found[1])  # type: ignore[arg-type]
    assert command is not None
    options = {option for param in command.params for option in param.opts}
    assert set(re.findall(r"--\w+", found[2])) <= options
    assert set(re.findall(r"{(\w+)}", found[2])) == set(entry["parameters"])


def test_its_environment_is_the_lock() -> None:
    env = yaml.safe_load((FOLDER / PROJECT["python_env"]).read_text())
    assert env == {"python": "3.11", "dependencies": ["-r requirements.lock"]}
    assert (FOLDER / "requirements.lock").resolve() == (FOLDER.parent / "requirements.lock").resolve()


def test_the_folder_is_no_package() -> None:
    assert not list(FOLDER.glob("*.py"))
