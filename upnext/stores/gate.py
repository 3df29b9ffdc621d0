"""A lock that many may share, or one hold alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class Gate:
    """Sharers wait while one is, or wants to be, alone; so one who wants to be alone is not starved."""

    def __init__(self) -> None:
        self._condition = Condition(Lock())
        self._sharing = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._sharing += 1
        try:
            yield
        finally:
            with self._condition:
                self._sharing -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: not self._sharing)
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
