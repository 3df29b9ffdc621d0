from datetime import UTC, datetime, timedelta

from serving.clock import Clock
from upnext.times import microseconds

MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = MADE + timedelta(hours=3)


def test_an_old_log_is_served_as_of_its_own_end():
    clock = Clock.of(datetime(2022, 5, 5, tzinfo=UTC), MADE, lambda: LATER)
    assert clock.now() == datetime(2022, 5, 5, 3, tzinfo=UTC)
    assert clock.offset_us == microseconds(clock.now()) - microseconds(LATER)


def test_a_live_platform_is_served_by_the_wall_clock():
    clock = Clock.of(MADE - timedelta(hours=7), MADE, lambda: LATER)
    assert clock.now() == LATER
    assert clock.offset_us == 0


def test_a_log_that_ends_in_the_future_is_served_as_of_its_end():
    assert Clock.of(MADE + timedelta(days=30), MADE, lambda: LATER).now() == LATER + timedelta(days=30)
