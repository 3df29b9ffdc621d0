"""Parts of a request that may fail or be late: each has a deadline, and the answer goes on without it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

from serving.tracing import carried, skipped, span
from upnext.errors import UpnextError

T = TypeVar("T")
BUSY = 3
"""Late calls of one part still under way; with so many, it is skipped at once until one ends."""
log = logging.getLogger(__name__)


@dataclass
class Trace:
    """What happened during one request: stage -> milliseconds, part -> why it was skipped, name -> count."""

    timings_ms: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            with span(stage):
                yield
        finally:
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + 1e3 * (perf_counter() - start)


class Deadlines:
    """Runs parts side by side and waits no longer than asked. A late part ends in the background, unheard."""

    def __init__(
        self, threads: int = 16, on_skip: Callable[[str, str], None] = lambda part, why: None
    ) -> None:
        """``on_skip`` hears the name of each skipped part and one of error, late, busy."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="part")
        self._on_skip = on_skip
        self._late: Counter[str] = Counter()
        self._lock = Lock()

    def gather(self, parts: Mapping[str, Callable[[], T]], timeout_s: float, trace: Trace) -> dict[str, T]:
        """Results of the parts that answered in time, in the order of ``parts``."""
        return self.finish(self.begin(parts, trace), timeout_s, trace)

    def begin(self, parts: Mapping[str, Callable[[], T]], trace: Trace) -> dict[str, Future[T]]:
        """Start parts side by side, for :meth:`finish`; those that are busy already are left out."""
        running: dict[str, Future[T]] = {}
        for name, part in parts.items():
            if self._late[name] >= BUSY:
                self._skip(name, "busy", f"{BUSY} earlier calls have not ended", trace)
            else:
                running[name] = self._pool.submit(carried(name, part))
        return running

    def finish(self, running: Mapping[str, Future[T]], timeout_s: float, trace: Trace) -> dict[str, T]:
        """Results of the parts that have answered, or do so within ``timeout_s``."""
        wait(running.values(), timeout_s)
        results: dict[str, T] = {}
        for name, future in running.items():
            if not future.done():
                self._abandon(name, future)
                self._skip(name, "late", f"took longer than {1e3 * timeout_s:.0f} ms", trace)
            elif (error := future.exception()) is not None:
                kind = type(error).__name__  # of another's error the text may quote what a person sent
                log.warning("%s failed: %s", name, error if isinstance(error, UpnextError) else kind)
                self._skip(name, "error", repr(error), trace)
            else:
                results[name] = future.result()
        return results

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

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
