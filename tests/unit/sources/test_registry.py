"""Opening a source by its spec."""

import subprocess
import sys

import pytest

from upnext.errors import ConfigError, MissingData
from upnext.sources import KINDS, open_source


@pytest.mark.parametrize("spec", ["csv:data", "kuairand", ""])
def test_an_unknown_kind_is_named_with_the_known_ones(spec: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_source(spec)
    assert repr(spec) in str(error.value)
    assert all(f"{kind}:" in str(error.value) for kind in KINDS)


@pytest.mark.parametrize("kind", ["kuairand", "kuairec", "movielens", "files"])
@pytest.mark.parametrize("folder", ["", "no/such/folder"])
def test_a_missing_folder_is_named(kind: str, folder: str) -> None:
    with pytest.raises(MissingData, match=f"{kind}:{folder}"):
        open_source(f"{kind}:{folder}")


def test_the_log_needs_settings() -> None:
    with pytest.raises(ConfigError, match="needs settings"):
        open_source("log:")


def test_listing_the_kinds_imports_no_reader() -> None:
    code = (
        "import sys, upnext.sources; print([m for m in sys.modules if m in ('pyarrow', 'numpy', 'duckdb')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
