"""docs/operations.md says of the steps what the table says."""

import re
from pathlib import Path

from components.pipeline import STEPS
from upnext.cli.main import COMMANDS

TEXT = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def test_its_table_of_steps_is_the_step_table() -> None:
    table = TEXT.split("| step | after |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert [(name, after, tracked) for name, after, _, _, tracked in rows] == [
        (step.name, ", ".join(step.needs), "yes" if step.tracked else "") for step in STEPS
    ]
    assert all(reads and writes for _, _, reads, writes, _ in rows)


def test_its_commands_exist() -> None:
    named = set(re.findall(r"upnext ([a-z]+)", TEXT))
    assert named <= set(COMMANDS)
