"""Which world: its options, how they are written, and when it begins."""

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from upnext.errors import ConfigError
from upnext.times import microseconds

START = datetime(2026, 6, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

DAILY_GROWTH = 0.005
"""New viewers, and new videos, per day as a share of those at the start."""

_LIMITS = {
    "users": (1, 20_000_000),
    "videos": (2, 20_000_000),
    "seed": (0, 2**63 - 1),
    "days": (1, 730),
}
"""With these, two years of growth still fit the eight digits of an id."""


@dataclass(frozen=True)
class WorldConfig:
    """Options of a world. All but ``days`` are its identity: more days only add to what was there."""

    users: int = 3000
    """Viewers at the start; half a percent of them join each day."""
    videos: int = 4000
    """Videos at the start; half a percent of them are uploaded each day."""
    seed: int = 7
    days: int = 21
    """Days that the log covers, from 2026-06-01T00:00Z."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"world: {name} is {value}: give a whole number from {low} to {high}")

    @property
    def end_us(self) -> int:
        """First microsecond after the log."""
        return START_US + self.days * DAY_US

    @property
    def dataset(self) -> str:
        """Slug for Settings.activate: ``world``, with 8 hex digits unless it is the default identity."""
        identity = f"users={self.users},videos={self.videos},seed={self.seed}"
        default = WorldConfig()
        if (self.users, self.videos, self.seed) == (default.users, default.videos, default.seed):
            return "world"
        return f"world-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def parse_options(text: str) -> WorldConfig:
    """Options as in ``users=3000,videos=4000,days=21,seed=7``, each of them optional.

    Raises ConfigError, naming the option and those known, for anything else.
    """
    known = [field.name for field in fields(WorldConfig)]
    options: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise ConfigError(f"world: no option is called {name!r}: the options are {', '.join(known)}")
        if name in options:
            raise ConfigError(f"world: {name} is given twice")
        digits = value.replace("_", "")
        if not (equals and digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise ConfigError(f"world: {name} is {value!r}: give a whole number, such as {name}=100")
        options[name] = int(digits)
    return WorldConfig(**options)


def to_us(time: datetime) -> int:
    """Microseconds since 1970 of a time; ConfigError when it has no zone."""
    if time.tzinfo is None:
        raise ConfigError(f"{time.isoformat()} has no time zone: give UTC, such as {START.isoformat()}")
    return microseconds(time)
