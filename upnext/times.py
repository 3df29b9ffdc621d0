"""Moments as whole microseconds since 1970, UTC, which is how tables and stores compare them."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 of a time, exactly; ValueError when it has no zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone: pass UTC")
    return (time - EPOCH) // MICROSECOND


def moment(at_us: int) -> datetime:
    """The time that lies so many microseconds after 1970, UTC."""
    return EPOCH + int(at_us) * MICROSECOND
