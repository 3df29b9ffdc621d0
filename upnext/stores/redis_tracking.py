"""Being told by Redis what changes below a prefix (CLIENT TRACKING, RESP3), with proof of nothing missed.

Redis pushes the names of changed keys down one connection, in order. A ping down the same connection that
comes back proves that every change before it was sent has been told; so the silence of a dead server or a cut
cable is never taken for peace.
"""

import logging
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import Any

import redis

from upnext.abilities import Listener

STALE_S = 0.9
"""Age of the last proof up to which all is taken to be told; a value in use is never staler than a second."""
BEAT_S = 0.2
"""Seconds between two pings."""
AGAIN_S = 0.1
"""Seconds before a lost connection is opened again."""
log = logging.getLogger(__name__)


class Tracking:
    """Follows the keys below one prefix from a thread of its own, and opens a lost connection again."""

    def __init__(self, pool: redis.ConnectionPool, prefix: bytes, listener: Listener) -> None:
        self._pool, self._prefix, self._listener = pool, prefix, listener
        self._proven = -STALE_S
        self._heard = True  # so that an outage is told once
        self._stop = Flag()
        self._thread = Thread(target=self._run, name="redis-tracking", daemon=True)
        self._thread.start()

    def vouches(self) -> bool:
        """Whether all that changed more than ``STALE_S`` ago has been told."""
        return monotonic() - self._proven < STALE_S

    def close(self) -> None:
        self._proven = -STALE_S
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = self._connection()
            try:
                self._follow(connection)
            except (redis.RedisError, OSError) as error:
                if self._heard:
                    log.warning("no word of what changes in Redis, reading without the near cache: %s", error)
                self._heard = False
            finally:
                connection.disconnect()
                self._proven = -STALE_S
                self._listener.clear()  # what changes from here on is not told
            self._stop.wait(AGAIN_S)

    def _follow(self, connection: Any) -> None:
        """Listen until told to stop; raises when the connection is lost or silent for too long."""
        connection.connect()
        connection._parser.set_invalidation_push_handler(self._hear)
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix)
        connection.read_response()
        while not self._stop.is_set():
            asked = monotonic()
            connection.send_command("PING", check_health=False)
            connection.read_response(timeout=STALE_S - BEAT_S)  # hears the pushes that come before it
            self._proven, self._heard = asked, True
            while not self._stop.is_set() and (left := asked + BEAT_S - monotonic()) > 0:
                if connection.can_read(timeout=left):
                    connection.read_response(push_request=True, timeout=STALE_S - BEAT_S)

    def _hear(self, message: list[Any]) -> None:
        """``[b"invalidate", keys]``; without keys, when the whole database was emptied."""
        keys = message[1]
        if keys is None:
            self._listener.clear()
            return
        start = len(self._prefix)
        self._listener.forget([key[start:].decode() for key in keys if key.startswith(self._prefix)])

    def _connection(self) -> Any:
        pool = self._pool
        kwargs: dict[str, Any] = pool.connection_kwargs
        made: Callable[..., Any] = pool.connection_class
        return made(**kwargs)
