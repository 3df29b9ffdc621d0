"""Finding and opening the adapter of a URL."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from upnext.errors import ConfigError
from upnext.settings import Settings
from upnext.stores import ADAPTERS, adapter, connect
from upnext.stores.urls import local_path, masked, scheme

HEAVY = ("alembic", "deltalake", "lmdb", "pandas", "pyarrow.dataset", "sqlalchemy", "sqlite3")


def test_every_default_has_its_adapter(tmp_path: Path) -> None:
    for port in ADAPTERS:
        assert callable(adapter(port, Settings(home=tmp_path)).open)


def test_an_unknown_scheme_names_setting_url_and_what_is_known(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, catalogue_url="oracle://me:secret@host/db")
    with pytest.raises(ConfigError) as caught, connect(settings) as stores:
        _ = stores.catalogue
    message = str(caught.value)
    assert "UPNEXT_CATALOGUE_URL is 'oracle://me:***@host/db'" in message
    assert "sqlite://" in message and "postgresql://" in message
    assert "secret" not in message


def test_nothing_is_opened_or_imported_before_it_is_used(tmp_path: Path) -> None:
    script = f"""
import sys
from upnext.settings import Settings
from upnext.stores import connect
with connect(Settings(home={str(tmp_path / "home")!r})):
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "home").exists()


def test_a_port_is_opened_once_and_closed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Fake:
        @classmethod
        def open(cls, url: str, settings: Settings) -> "Fake":
            calls.append(url)
            return cls()

        def close(self) -> None:
            calls.append("closed")

    monkeypatch.setattr("upnext.stores.adapter", lambda port, settings: Fake)
    with connect(Settings(home=tmp_path, history_url="fake://x")) as stores:
        assert stores.history is stores.history
    assert calls == ["fake://x", "closed"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", ""),
        ("/a/folder", ""),
        ("s3://bucket/lake", "s3"),
        ("SQLite:///x.db", "sqlite"),
        ("postgresql+psycopg://h/db", "postgresql"),
        ("postgresql+psycopg_async://h/db", "postgresql"),
        ("my_sql://h/db", "my_sql"),
    ],
)
def test_scheme(url: str, expected: str) -> None:
    assert scheme(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:p:w/d@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("sqlite:////a/b@c:d.db", "sqlite:////a/b@c:d.db"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    assert masked(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////abs/x.db", Path("/abs/x.db")),
        ("sqlite:///rel/x.db", Path("rel/x.db")),
        ("lmdb:///abs/on line", Path("/abs/on line")),
        ("file:///abs/lake", Path("/abs/lake")),
        ("rel/lake", Path("rel/lake")),
        ("s3://bucket/lake", None),
        ("postgresql://host/db", None),
        ("postgresql+psycopg_async://me:secret@host/db", None),
        ("1 odd_scheme://me:secret@host/db", None),
    ],
)
def test_local_path(url: str, expected: Any) -> None:
    assert local_path(url) == expected


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "lmdb://", ""])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        local_path(url)
