"""Circuit breakers: an outside store that fails or is late is left alone, and then tried with one call.

closed      calls go through; ``FAILURES`` in a row that fail or are late open it
open        nobody is asked, which costs microseconds, for ``REST_S``
half open   one call tries the store: good and in time it closes the breaker, else it opens again

A call counts as late from the moment that its time is over, not when it comes back: a store that hangs opens
its breaker as fast as one that refuses. Nygard, Release It!, 2007. docs/adr/0015 says why this is ours.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from upnext.errors import DataError, InvalidRequest, NotFound, ReleaseError, StoreUnavailable

T = TypeVar("T")
FAILURES = 3
"""Calls in a row that must fail or be late."""
REST_S = 5.0
"""Seconds for which a store is left alone."""
HANGING = 2 * FAILURES
"""Calls that have not come back, with which no other is tried: each holds a thread."""
ANSWERS = (InvalidRequest, NotFound, DataError, ReleaseError)
"""What a store that works may say, too."""
log = logging.getLogger(__name__)


class BreakerOpen(StoreUnavailable):
    """The store failed lately and is not asked now."""


class State(StrEnum):
    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class _Call:
    """One call under way; ``counted`` once it is known to be late."""

    def __init__(self, due: float) -> None:
        self.due, self.counted = due, False


class Breaker:
    """One store's. Safe between threads; no lock is held while the store works."""

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        self.name = name
        self._clock, self._lock = clock, Lock()
        self._under_way: set[_Call] = set()
        self._failures = 0
        self._again_at: float | None = None
        """When an open breaker lets a call through; None while it is closed."""
        self._trying: _Call | None = None

    @property
    def state(self) -> State:
        """Half open from when the rest is over until the call that tries the store has shown how it is."""
        with self._lock:
            now = self._clock()
            self._count_late(now)
            if self._again_at is None:
                return State.CLOSED
            return State.HALF_OPEN if self._trying or self._due(now) else State.OPEN

    @property
    def due(self) -> bool:
        """Whether the next call would try the store."""
        with self._lock:
            return self._trying is None and self._due(self._clock())

    def call(self, work: Callable[[], T], within_s: float) -> T:
        """The result of ``work``, which counts as failed when it raises or takes longer than ``within_s``.

        What it raises is raised here; BreakerOpen without calling it while the store is left alone.
        """
        with self.calling(within_s):
            return work()

    @contextmanager
    def calling(self, within_s: float) -> Iterator[None]:
        """As :meth:`call`, of what is done in the block."""
        call = self._begin(within_s)
        good = False
        try:
            yield
            good = True
        except ANSWERS:
            good = True
            raise
        finally:
            self._end(call, good)

    def _begin(self, within_s: float) -> _Call:
        with self._lock:
            now = self._clock()
            self._count_late(now)
            call = _Call(now + within_s)
            if self._again_at is not None:
                if self._trying is not None or not self._due(now):
                    raise BreakerOpen(f"{self.name} failed lately and is left alone for {REST_S:.0f} s")
                self._trying = call
            self._under_way.add(call)
            return call

    def _end(self, call: _Call, good: bool) -> None:
        with self._lock:
            now = self._clock()
            self._count_late(now)
            self._under_way.discard(call)
            if call.counted:
                return
            if not good:
                self._failed(call, now)
            elif self._trying is call:
                self._trying = self._again_at = None
                self._failures = 0
                log.info("%s answers again", self.name)
            elif self._again_at is None:
                self._failures = 0

    def _due(self, now: float) -> bool:
        return self._again_at is not None and now >= self._again_at and len(self._under_way) < HANGING

    def _count_late(self, now: float) -> None:
        for call in self._under_way:
            if not call.counted and now > call.due:
                call.counted = True
                self._failed(call, now)

    def _failed(self, call: _Call, now: float) -> None:
        if self._trying is call:
            self._trying, self._again_at = None, now + REST_S
        elif self._again_at is None:
            self._failures += 1
            if self._failures >= FAILURES:
                self._again_at = now + REST_S
                log.warning("%s failed %d times in a row: it is left alone", self.name, self._failures)


@dataclass(frozen=True)
class Guarded(Generic[T]):
    """A call that goes through a breaker, ready to be made."""

    breaker: Breaker
    work: Callable[[], T]
    within_s: float

    def __call__(self) -> T:
        return self.breaker.call(self.work, self.within_s)


class Breakers:
    """The breakers of a process by the name of their store, made when first asked for."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._made: dict[str, Breaker] = {}
        self._lock = Lock()
        if registry is not None:
            registry.register(self)

    def of(self, name: str) -> Breaker:
        with self._lock:
            return self._made.setdefault(name, Breaker(name))

    def guarded(self, name: str, work: Callable[[], T], within_s: float) -> Guarded[T]:
        return Guarded(self.of(name), work, within_s)

    def collect(self) -> Iterator[Metric]:
        """For Prometheus: 1 for the state that a store's breaker is in, 0 for the others."""
        family = GaugeMetricFamily(
            "upnext_breaker_state", "State of a store's circuit breaker", labels=["store", "state"]
        )
        for name, breaker in sorted(self._made.items()):
            now = breaker.state
            for state in State:
                family.add_metric([name, state], float(state is now))
        yield family
