"""Parts of a request that may fail or be late: each has a deadline, and the answer goes on without it.

A request has a budget, handed down in its :class:`Trace`: each part has its own limit or what is left of the
budget, whichever is less. Parts that ask an outside store go through its circuit breaker
(:mod:`serving.breakers`): while it is open they are skipped at once.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from math import inf
from threading import Lock
from time import monotonic, perf_counter
from typing import Any, Generic, TypeVar

from serving.breakers import BreakerOpen, Guarded, State
from serving.tracing import skipped, span, spanned
from upnext.errors import UpnextError

T = TypeVar("T")
BUSY = 3
"""Late calls of one part still under way; with so many, it is skipped at once until one ends. Those of an
outside store are its breaker's to bound."""
HELD_UP_S = 0.01
"""Seconds after which parts that share threads get one more, as when one of them hangs."""
log = logging.getLogger(__name__)


@dataclass
class Trace:
    """What happened during one request: stage -> milliseconds, part -> why it was skipped, name -> count.

    due: when the request's budget is spent, by the monotonic clock.
    """

    timings_ms: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    due: float = inf

    @classmethod
    def within(cls, budget_s: float) -> "Trace":
        """Of a request that begins now."""
        return cls(due=monotonic() + budget_s)

    @classmethod
    def current(cls) -> "Trace":
        """The trace of the request whose part calls this; a new one outside of any."""
        return _CURRENT.get() or cls()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            with span(stage):
                yield
        finally:
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + 1e3 * (perf_counter() - start)


_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


@dataclass(frozen=True)
class Running(Generic[T]):
    """Parts under way, until when they are waited for, and of how long that was from their start.

    waiting: what to call of those that no thread has taken yet, where they share some.
    """

    futures: Mapping[str, Future[T]]
    due: float
    limit_s: float
    waiting: deque[Callable[[], None]] = field(default_factory=deque)


class Deadlines:
    """Runs parts side by side and waits no longer than asked. A late part ends in the background, unheard."""

    def __init__(
        self, threads: int = 32, on_skip: Callable[[str, str], None] = lambda part, why: None
    ) -> None:
        """``on_skip`` hears the name of each skipped part and one of error, late, busy, open."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="part")
        self._on_skip = on_skip
        self._late: Counter[str] = Counter()
        self._lock = Lock()

    def gather(
        self, parts: Mapping[str, Callable[[], T]], limit_s: float, trace: Trace, threads: int | None = None
    ) -> dict[str, T]:
        """Results of the parts that answered in time, in the order of ``parts``; see :meth:`begin`."""
        return self.finish(self.begin(parts, limit_s, trace, threads), trace)

    def begin(
        self, parts: Mapping[str, Callable[[], T]], limit_s: float, trace: Trace, threads: int | None = None
    ) -> Running[T]:
        """Start parts side by side, for :meth:`finish`, each to answer within ``limit_s`` from now.

        Left out is what is busy already, whose breaker is open, and all when the budget is spent.

        threads: how many the parts share, in their order. None: each has its own, as what waits for others
        should; what computes gains nothing by more than there are cores, and pays for each hand-over.
        """
        now = monotonic()
        due = min(now + limit_s, trace.due)
        running: dict[str, Future[T]] = {}
        waiting: deque[Callable[[], None]] = deque()
        for name, part in parts.items():
            if due <= now:
                self._skip(name, "late", "no time was left", trace)
            elif isinstance(part, Guarded):
                if part.breaker.state is State.CLOSED:
                    running[name] = self._submit(name, part, trace)
                    continue
                if part.breaker.due:
                    self._submit(name, part, Trace())  # tries the store; no request waits for that
                self._skip(name, "open", f"{part.breaker.name} failed lately and is left alone", trace)
            elif self._late[name] >= BUSY:
                self._skip(name, "busy", f"{BUSY} earlier calls have not ended", trace)
            elif threads is None:
                running[name] = self._submit(name, part, trace)
            else:
                future: Future[T] = Future()
                running[name] = future
                waiting.append(partial(_fulfil, future, _within(trace, name, part)))
        for _ in range(min(threads or 0, len(waiting))):
            self._pool.submit(_work_off, waiting)
        return Running(running, due, due - now, waiting)

    def finish(self, running: Running[T], trace: Trace) -> dict[str, T]:
        """Results of the parts that have answered, or do so while there is time."""
        futures = running.futures.values()
        while running.waiting and (left := running.due - monotonic()) > HELD_UP_S:
            wait(futures, min(left, HELD_UP_S))
            if running.waiting:
                self._pool.submit(_work_off, running.waiting)
        wait(futures, max(0.0, running.due - monotonic()))
        running.waiting.clear()
        results: dict[str, T] = {}
        for name, future in running.futures.items():
            if not future.done():
                self._abandon(name, future)
                self._skip(name, "late", f"took longer than {1e3 * running.limit_s:.0f} ms", trace)
            elif isinstance(error := future.exception(), BreakerOpen):
                self._skip(name, "open", str(error), trace)
            elif error is not None:
                kind = type(error).__name__  # of another's error the text may quote what a person sent
                log.warning("%s failed: %s", name, error if isinstance(error, UpnextError) else kind)
                self._skip(name, "error", repr(error), trace)
            else:
                results[name] = future.result()
        return results

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, name: str, part: Callable[[], T], trace: Trace) -> Future[T]:
        return self._pool.submit(_within(trace, name, part))

    def _abandon(self, name: str, future: Future[Any]) -> None:
        if future.cancel():
            return
        with self._lock:
            self._late[name] += 1
        future.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        with self._lock:
            self._late[name] -= 1

    def _skip(self, name: str, why: str, detail: str, trace: Trace) -> None:
        trace.skipped[name] = f"{why}: {detail}"
        self._on_skip(name, why)
        skipped(name, why)


def _within(trace: Trace, name: str, part: Callable[[], T]) -> Callable[[], T]:
    """A part as what belongs to a request, in a span of its own."""
    context = copy_context()
    context.run(_CURRENT.set, trace)
    return partial(context.run, spanned, name, part)


def _fulfil(future: Future[T], part: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(part())
        except BaseException as error:
            future.set_exception(error)


def _work_off(waiting: deque[Callable[[], None]]) -> None:
    """Call one after the other until none is left."""
    with suppress(IndexError):
        while True:
            waiting.popleft()()
