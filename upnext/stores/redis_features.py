"""Online features in Redis: one key per value, over one server or a proxy that splits what it is sent.

    upnext:view:<view>:<id>   a value
    upnext:views              a hash: view -> how many values it has

A thousand values are written by one script, which Redis runs whole or not at all; so the counts are right
whoever else writes, and no read ever walks the keys. Scripts and MGET name keys of many slots, which Redis
Cluster itself refuses. The database must not drop keys by itself (``maxmemory-policy noeviction``, which is
the default).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from upnext.abilities import Following, Listener
from upnext.errors import ConfigError, InvalidRequest, StoreError, StoreReadOnly, StoreUnavailable
from upnext.settings import Settings
from upnext.stores.redis_tracking import Tracking
from upnext.stores.urls import masked

READ_S = 0.05
"""Seconds that a read may take: a quarter of what ranking may."""
WRITE_S = 30.0
CONNECTIONS = 32
"""Reads under way at once; one more waits as long as a read may take."""
TOGETHER = 1_000
"""Values of one script: a few milliseconds in which Redis answers nobody else."""
IN_FLIGHT = 8
"""Scripts of one round trip, some megabytes."""
PREFIX = b"upnext:"
VIEWS = PREFIX + b"views"
_GLOB = re.compile(rb"[*?\[\]\\^-]")
_PUT = """
local new = #KEYS - 1 - redis.call('EXISTS', unpack(KEYS, 2))
local pairs = {}
for i = 2, #KEYS do pairs[#pairs + 1] = KEYS[i]; pairs[#pairs + 1] = ARGV[i] end
redis.call('MSET', unpack(pairs))
redis.call('HINCRBY', KEYS[1], ARGV[1], new)
"""
_DELETE = """
local gone = redis.call('UNLINK', unpack(KEYS, 2))
redis.call('HINCRBY', KEYS[1], ARGV[1], 0 - gone)
return gone
"""


class RedisFeatures:
    """One packed value per view and id. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._where = masked(url)
        try:
            self._reader, self._writer = _client(url, READ_S), _client(url, WRITE_S)
        except ValueError:  # its words quote the password
            raise ConfigError(
                f"{self._where!r} is no URL of Redis: write redis://[user:password@]host:port/0, "
                "with %2F for / in a password"
            ) from None
        self._put = self._writer.register_script(_PUT)
        self._delete = self._writer.register_script(_DELETE)
        self._tracking: WeakSet[Tracking] = WeakSet()

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        return cls(url)

    def ping(self) -> str:
        with self._errors():
            version = self._reader.info("server")["redis_version"]
        return f"Redis {version}, {len(self.views())} views"

    def close(self) -> None:
        for tracking in list(self._tracking):
            tracking.close()
        self._reader.close()
        self._writer.close()

    def put(self, view: str, ids: Sequence[str], values: Sequence[bytes]) -> None:
        pairs = list(dict(zip(keys_of(view, ids), values, strict=True)).items())
        with self._errors():
            for start in range(0, len(pairs), TOGETHER * IN_FLIGHT):
                with self._writer.pipeline(transaction=False) as pipeline:
                    for first in range(start, min(start + TOGETHER * IN_FLIGHT, len(pairs)), TOGETHER):
                        keys, some = zip(*pairs[first : first + TOGETHER], strict=True)
                        self._put([VIEWS, *keys], [view.encode(), *some], client=pipeline)
                    pipeline.execute()

    def get(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        keys = keys_of(view, ids)
        if not keys:
            return []
        with self._errors():
            return cast(list[bytes | None], self._reader.mget(keys))

    @contextmanager
    def asking(self, view: str, ids: Sequence[str]) -> Iterator[Callable[[], list[bytes | None]]]:
        """As :meth:`get`, sent for at once and waited for by calling what this yields, within the block."""
        keys, pool = keys_of(view, ids), self._reader.connection_pool
        with self._errors():
            connection: Any = pool.get_connection()
        answered = False

        def answer() -> list[bytes | None]:
            nonlocal answered
            with self._errors():
                values = cast(list[bytes | None], connection.read_response())
            answered = True
            return values

        try:
            with self._errors():
                connection.send_command("MGET", *keys)
            yield answer
        finally:
            if not answered:
                connection.disconnect()  # so that nobody takes this answer for his own
            pool.release(connection)

    def delete(self, view: str, ids: Sequence[str]) -> int:
        keys = list(dict.fromkeys(keys_of(view, ids)))
        gone = 0
        with self._errors():
            for start in range(0, len(keys), TOGETHER):
                gone += int(self._delete([VIEWS, *keys[start : start + TOGETHER]], [view.encode()]))
        return gone

    def count(self, view: str) -> int:
        with self._errors():
            return int(self._writer.hget(VIEWS, _name(view)) or 0)

    def drop(self, view: str) -> None:
        """Remove a view with all its values; what others write to it meanwhile may go with them."""
        pattern = _GLOB.sub(rb"\\\g<0>", _prefix(view)) + b"*"
        with self._errors():
            for keys in _batches(self._writer.scan_iter(pattern, count=TOGETHER)):
                self._delete([VIEWS, *keys], [view.encode()])
            self._writer.hdel(VIEWS, view.encode())

    def views(self) -> list[str]:
        with self._errors():
            counts = cast(dict[bytes, bytes], self._writer.hgetall(VIEWS))
        return sorted(view.decode() for view, count in counts.items() if int(count) > 0)

    def follow(self, view: str, listener: Listener) -> Following:
        """Tell ``listener`` of a view's changes, over a connection of its own, until the answer is closed."""
        tracking = Tracking(self._writer.connection_pool, _prefix(view), listener)
        self._tracking.add(tracking)
        return tracking

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Map what Redis and its client raise to Upnext's errors."""
        try:
            yield
        except redis.AuthenticationError as error:
            raise StoreError(f"{self._where} refuses the user or password: {error}") from error
        except redis.TimeoutError as error:
            raise StoreUnavailable(f"{self._where} does not answer in time: {error}") from error
        except redis.ConnectionError as error:
            raise StoreUnavailable(f"{self._where} does not answer: {error}") from error
        except redis.ReadOnlyError as error:
            raise StoreReadOnly(f"{self._where} is a replica: name the primary") from error
        except redis.OutOfMemoryError as error:
            raise StoreError(f"{self._where} has no memory left: raise maxmemory, or drop views") from error
        except redis.RedisError as error:
            raise StoreError(f"{self._where}: {error}") from error


def _client(url: str, timeout_s: float) -> redis.Redis:
    """A client with a pool of its own. A connection that the server has closed is opened again, once.

    What the URL says after its question mark, such as ``socket_timeout=0.1``, goes before what is said here.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, 1.0),
        socket_keepalive=True,
        protocol=3,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    return redis.Redis(connection_pool=pool)


def _name(view: str) -> bytes:
    if not view or ":" in view:
        raise ConfigError(f"{view!r} is no name for a view: it needs a letter, and no colon")
    return view.encode()


def _prefix(view: str) -> bytes:
    return PREFIX + b"view:" + _name(view) + b":"


def keys_of(view: str, ids: Sequence[str]) -> list[bytes]:
    """Names in Redis of the values of a view."""
    if "" in ids:
        raise InvalidRequest("an id is empty: every value belongs to an entity")
    prefix = _prefix(view).decode()
    return [f"{prefix}{id_}".encode() for id_ in ids]


def _batches(keys: Iterator[Any]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    for key in keys:
        some.append(key)
        if len(some) == TOGETHER:
            yield some
            some = []
    if some:
        yield some
