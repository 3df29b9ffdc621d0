"""Contract tests: one module per port, run against every adapter of that port.

A new adapter adds one entry to ``URLS``. A module names its port in ``PORT`` and asks for ``site``.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from upnext.settings import Settings
from upnext.stores import Stores, connect
from upnext.stores.sql import migrate

URLS: dict[str, dict[str, str]] = {
    "event_log": {"sqlite": "sqlite:///{home}/events.db"},
    "feature_log": {"sqlite": "sqlite:///{home}/feature_log.db"},
    "lake": {"folder": "{home}/lake", "file": "file://{home}/lake"},
    "history": {"sqlite": "sqlite:///{home}/history.db"},
    "profiles": {"sqlite": "sqlite:///{home}/platform.db", "postgresql": "postgresql://"},
    "catalogue": {"sqlite": "sqlite:///{home}/platform.db", "postgresql": "postgresql://"},
    "keys": {"sqlite": "sqlite:///{home}/access.db", "postgresql": "postgresql://"},
    "erasures": {"sqlite": "sqlite:///{home}/platform.db", "postgresql": "postgresql://"},
    "experiments": {"sqlite": "sqlite:///{home}/platform.db", "postgresql": "postgresql://"},
    "online_features": {"lmdb": "lmdb://{home}/online", "redis": "redis://"},
}
"""Port -> name of the adapter -> URL. A bare ``redis://`` or ``postgresql://`` stands for the tests' own
server, emptied."""


@dataclass
class Site:
    """A place where one port is reachable; each ``open`` is another client of it."""

    port: str
    settings: Settings
    clients: list[Stores] = field(default_factory=list)

    def open(self) -> Any:
        self.clients.append(connect(self.settings))
        return self.clients[-1].open(self.port)

    def close(self) -> None:
        while self.clients:
            self.clients.pop().close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        port = metafunc.module.PORT
        places = [pytest.param((port, url), id=name) for name, url in URLS[port].items()]
        metafunc.parametrize("site", places, indirect=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that any user may enter, unlike ``tmp_path``, so that :func:`seal` works for root as well."""
    with tempfile.TemporaryDirectory(prefix="upnext-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def site(request: pytest.FixtureRequest, home: Path) -> Iterator[Site]:
    port, url = request.param
    if url == "redis://":
        server = request.getfixturevalue("redis_server")
        url = server.url()
    elif url == "postgresql://":
        url = request.getfixturevalue("postgres_server").fresh("contract")
        migrate(url)
    site = Site(port, Settings(home=home, dataset="default", **{f"{port}_url": url}))
    yield site
    site.close()


@pytest.fixture
def seal(home: Path) -> Iterator[Callable[[], None]]:
    """A function that makes all of ``home`` read-only, for root too, until the test ends."""
    writing = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    changed: list[tuple[Path, int]] = []
    user = os.geteuid()

    def seal() -> None:
        for path in (home, *home.rglob("*")):
            changed.append((path, path.stat().st_mode))
            path.chmod(path.stat().st_mode & ~writing | stat.S_IROTH)
        if user == 0:
            try:
                os.seteuid(65534)
            except PermissionError:
                pytest.skip("root may not act as another user here, and nothing is read-only to root")

    yield seal
    os.seteuid(user)
    for path, mode in changed:
        if path.exists():
            path.chmod(mode)


@pytest.fixture
def refuse_writes(request: pytest.FixtureRequest, site: Site) -> Iterator[Callable[[], str]]:
    """A function that makes the store read-only until the test ends, and says what the message must name."""
    url = site.settings.url(site.port)
    if url.startswith("redis"):
        with request.getfixturevalue("redis_server").client() as client:
            yield lambda: client.replicaof("127.0.0.1", "1") and "replica.*primary"
            client.replicaof("NO", "ONE")
    elif url.startswith("postgresql"):
        server = request.getfixturevalue("postgres_server")
        yield lambda: server.refuse_writes("contract") or "replica.*primary"
    else:
        seal = request.getfixturevalue("seal")
        yield lambda: seal() or f"{site.settings.home}.*UPNEXT_HOME"
