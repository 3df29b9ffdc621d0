"""Moments as whole microseconds since 1970, UTC, which is how tables and stores compare them."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday, and Monday is 0."""


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 of a time, exactly; ValueError when it has no zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone: pass UTC")
    return (time - EPOCH) // MICROSECOND


def moment(at_us: int) -> datetime:
    """The time that lies so many microseconds after 1970, UTC."""
    return EPOCH + int(at_us) * MICROSECOND
