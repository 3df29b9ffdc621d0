"""What docs/data.md shows must work as it stands there."""

import re
from pathlib import Path

import pytest

from upnext.contracts import EVENTS, USERS, VIDEOS
from upnext.sources import KINDS, open_source
from upnext.sources.checks import split

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
EXAMPLES = {
    (heading, tail): body
    for heading, section in re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.S | re.M)
    for tail, body in re.findall(r"^```(csv|jsonl)\n(.*?)^```", section, re.S | re.M)
}


@pytest.mark.parametrize(("name", "tail"), EXAMPLES)
def test_each_example_is_read_without_a_refused_row(tmp_path: Path, name: str, tail: str) -> None:
    (tmp_path / "events.csv").write_text(EXAMPLES["events", "csv"])
    (tmp_path / f"{name}.{tail}").write_text(EXAMPLES[name, tail])
    checked = [split(table, name, "docs") for table in getattr(open_source(f"files:{tmp_path}"), name)()]
    assert sum(len(part.good) for part in checked) >= EXAMPLES[name, tail].count("\n") - 1
    assert not sum(len(part.refused) for part in checked)


def test_every_kind_and_column_is_described() -> None:
    assert {name for name, _ in EXAMPLES} == {"events", "videos", "users"}
    assert [kind for kind in KINDS if f"`{kind}:" not in PAGE] == []
    names = {*EVENTS.names, *VIDEOS.names, *USERS.names}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []
