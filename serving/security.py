"""Who may ask what: the keys in use, and how many requests each may send.

Keys are held in memory and taken over from their store by a poll, so that checking one costs microseconds and
a revoked one ends within seconds. Neither keys nor ids are ever logged.
"""

import logging
from dataclasses import dataclass, field
from time import time

from limits import RateLimitItem, WindowStats, parse, storage
from limits.strategies import SlidingWindowCounterRateLimiter

from serving.breakers import Breaker, BreakerOpen, State
from upnext import keys
from upnext.errors import AccessDenied, ConfigError, StoreUnavailable, TooManyRequests, UnknownKey
from upnext.keys import Scope
from upnext.ports import Keys, StoredKey
from upnext.settings import Settings
from upnext.stores.urls import masked, scheme

WAIT_S = 0.1
"""Seconds that counting a request may take."""
log = logging.getLogger(__name__)


@dataclass
class Guard:
    """Lets a request in, or says why not.

    ``open_without_keys``: as long as no key was ever made, everybody may do everything, which is what a
    demonstration on loopback wants. Once there was a key, one is needed, also when all are revoked.
    """

    store: Keys
    open_without_keys: bool = False
    _keys: dict[str, StoredKey] | None = field(default=None, repr=False)

    def refresh(self) -> None:
        """Take over the keys of the store."""
        self._keys = {key.key_id: key for key in self.store.all()}

    @property
    def open(self) -> bool:
        return self.open_without_keys and self._keys == {}

    def admit(self, presented: str | None, scope: Scope) -> str | None:
        """The id of the key that was presented, None where none is needed.

        UnknownKey without a valid key, AccessDenied where the key lacks the scope.
        """
        if self._keys is None:
            raise StoreUnavailable("the keys could not be read yet: try again in a moment")
        if self.open:
            return None
        if presented is None:
            raise UnknownKey("no key: send Authorization: Bearer KEY, or X-API-Key: KEY")
        found = keys.find(presented, self._keys)
        if found is None:
            raise UnknownKey("the key is not valid: it is mistyped or revoked")
        if scope not in found.scopes:
            raise AccessDenied(f"the key {found.key_id} has not the scope {scope}: create one that has")
        return found.key_id


@dataclass(frozen=True)
class Allowance:
    """What is left to a key after a request. limit: requests per window_s; reset_s: seconds."""

    limit: int
    left: int
    window_s: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As the IETF's draft "RateLimit header fields for HTTP" has them."""
        return {
            "RateLimit-Policy": f'"key";q={self.limit};w={self.window_s}',
            "RateLimit": f'"key";r={self.left};t={self.reset_s}',
        }


class RateLimits:
    """Counts the requests of each key in a sliding window."""

    def __init__(self, limit: RateLimitItem, url: str = "memory://", breaker: Breaker | None = None) -> None:
        self.limit = limit
        self._local = url.startswith("memory://")
        self._breaker = breaker or Breaker("rate_limits")
        waits = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), WAIT_S)
        options = waits if scheme(url) in {"redis", "rediss", "valkey", "valkeys"} else {}
        self._limiter = SlidingWindowCounterRateLimiter(storage.storage_from_string(url, **options))

    @classmethod
    def of(cls, settings: Settings, breaker: Breaker | None = None) -> "RateLimits | None":
        """The limits that the settings name; None for none. ConfigError where they can't be read."""
        if not settings.rate_limit.strip():
            return None
        try:
            return cls(parse(settings.rate_limit), settings.rate_limit_url, breaker)
        except Exception as error:  # each storage has errors of its own
            raise ConfigError(
                f"UPNEXT_RATE_LIMIT is {settings.rate_limit!r}, counted at UPNEXT_RATE_LIMIT_URL, "
                f"{masked(settings.rate_limit_url)}: {type(error).__name__}; "
                "write NUMBER per second, minute or hour, and memory:// or redis://HOST:PORT"
            ) from error

    @property
    def waits(self) -> bool:
        """Whether counting a request may wait for somebody else."""
        return not self._local and (self._breaker.state is State.CLOSED or self._breaker.due)

    def spend(self, key_id: str) -> Allowance | None:
        """Count one request; TooManyRequests when the key has none left. None when nobody could count."""
        try:
            granted, stats = self._breaker.call(lambda: self._count(key_id), WAIT_S)
        except BreakerOpen:
            return None
        except Exception as error:  # a counter that is away must not close the service
            log.warning("a request is not counted: %s", type(error).__name__)
            return None
        reset_s = max(1, round(stats.reset_time - time()))
        left = Allowance(self.limit.amount, stats.remaining, self.limit.get_expiry(), reset_s)
        if not granted:
            raise TooManyRequests(
                f"the key has sent the {self.limit.amount} requests of {self.limit.get_expiry()} s: "
                f"go on in {reset_s} s",
                {"Retry-After": str(reset_s), **left.headers()},
            )
        return left

    def _count(self, key_id: str) -> tuple[bool, WindowStats]:
        granted = self._limiter.hit(self.limit, key_id)
        return granted, self._limiter.get_window_stats(self.limit, key_id)
