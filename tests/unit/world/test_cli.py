"""``upnext world``: files that the files reader takes back."""

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner

from upnext.cli.world import world
from upnext.errors import ConfigError, StoreReadOnly
from upnext.sources import open_source


def test_what_is_written_is_the_world(tmp_path):
    options = ["--users", "50", "--videos", "80", "--days", "2", "--seed", "5"]
    result = CliRunner().invoke(world, [*options, "--out", str(tmp_path / "made"), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    source = open_source("world:users=50,videos=80,days=2,seed=5")
    files = open_source(f"files:{tmp_path / 'made'}")
    for name in ("videos", "users", "events"):
        table = pa.concat_tables(getattr(source, name)())
        assert len(table) == said[name]
        back = pa.concat_tables(getattr(files, name)())
        assert back.select(table.column_names).cast(table.schema).equals(table)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "events.parquet",
        "users.parquet",
        "videos.parquet",
    ]


def test_bad_options_and_folders_are_clear_errors(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for arguments, error in (
        (["--users", "0", "--out", str(tmp_path)], ConfigError),
        (["--users", "5", "--videos", "5", "--out", str(blocked / "below")], StoreReadOnly),
    ):
        result = CliRunner().invoke(world, arguments)
        assert isinstance(result.exception, error)
    with pytest.raises(ConfigError, match="options are"):
        open_source("world:viewers=3")
