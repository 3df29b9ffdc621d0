"""Servers that tests of several kinds need, one of each per test process."""

from collections.abc import Iterator

import prometheus_client  # noqa: F401 - first, or Feast makes all counters of a process one
import pytest

from tests.support import redis_server as support
from tests.support.postgres_server import PostgresServer
from tests.support.postgres_server import postgres_server as running_postgres


@pytest.fixture(scope="session")
def _redis() -> Iterator[support.RedisServer]:
    try:
        with support.redis_server() as server:
            yield server
    except support.NoRedis as why:
        pytest.skip(str(why))


@pytest.fixture
def redis_server(_redis: support.RedisServer) -> support.RedisServer:
    """A Redis that holds nothing."""
    with _redis.client() as client:
        client.flushall()
    return _redis


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL; each test takes a database of its own from it."""
    with running_postgres() as server:
        yield server
