"""A Redis of our own for tests and benchmarks: Debian's program on a free loopback port, nothing kept.

>>> with redis_server() as server:  # doctest: +SKIP
...     server.url()
"""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import redis

START_S = 10.0
NO_KEEPING = ("--save", "", "--appendonly", "no")
_PACKAGE = "redis-tools"
"""Debian's package with the program and without a service: ``redis-server`` only adds a link and a unit."""
_PROGRAM = Path("/usr/bin/redis-check-rdb")
"""The program's name there; it is the server when it is called by the server's name."""


class NoRedis(Exception):
    """There is no redis-server here, and it can't be installed."""


@dataclass(frozen=True)
class RedisServer:
    """A running server; ``password`` is asked of every client where it is not empty."""

    process: subprocess.Popen[bytes]
    port: int
    password: str = ""

    def url(self, database: int = 0) -> str:
        """With a patient time-out: a pause of the machine is not to fail a test or a measurement."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/{database}?socket_timeout=10"

    def client(self, database: int = 0) -> redis.Redis:
        return redis.Redis.from_url(self.url(database), protocol=3)


@contextmanager
def redis_server(*options: str, port: int | None = None, password: str = "") -> Iterator[RedisServer]:
    """A server that ends with the block. NoRedis where there is none to start."""
    program = find_program()
    with tempfile.TemporaryDirectory(prefix="upnext-redis-") as folder:
        link = Path(folder) / "redis-server"
        link.symlink_to(program)
        port = port or free_port()
        secret = ("--requirepass", password) if password else ()
        command = [str(link), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([*command, *NO_KEEPING, *secret, *options], stdout=log, stderr=log)
        server = RedisServer(process, port, password)
        try:
            _wait(server, Path(folder) / "log")
            yield server
        finally:
            process.kill()
            process.wait()


def find_program() -> Path:
    """redis-server on the PATH, else Debian's, installed when that may be done. NoRedis says why not."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    with (Path(tempfile.gettempdir()) / "upnext-redis-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes start at once
        if not _PROGRAM.is_file():
            _install()
    return _PROGRAM


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _install() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoRedis("no redis-server on the PATH, and only root on Debian can install it")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", _PACKAGE],
    ):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoRedis(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")


def _wait(server: RedisServer, log: Path) -> None:
    deadline = monotonic() + START_S
    with server.client() as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError as error:
                if server.process.poll() is not None or monotonic() > deadline:
                    raise NoRedis(f"redis-server does not start: {log.read_text()[-300:]}") from error
                sleep(0.02)
            else:
                return
