"""What time it is for the release that serves.

A log from years ago is served as of its own end: the time since the release was made counts on from there.
A release whose log ends when it was made serves by the wall clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LIVE = timedelta(days=2)
"""A log that ends at most this long before the release was made is a live platform's."""


def wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """offset is added to the wall clock; zero on a live platform."""

    offset: timedelta = timedelta(0)
    wall: Callable[[], datetime] = wall_clock

    @classmethod
    def of(cls, as_of: datetime, made_at: datetime, wall: Callable[[], datetime] = wall_clock) -> "Clock":
        behind = made_at - as_of
        live = timedelta(0) <= behind <= LIVE
        return cls(timedelta(0) if live else -behind, wall)

    def now(self) -> datetime:
        return self.wall() + self.offset

    @property
    def offset_us(self) -> int:
        """The offset in whole microseconds."""
        return self.offset // timedelta(microseconds=1)
