from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.times import microseconds, moment


def test_microseconds_are_exact():
    assert microseconds(datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)) == 1_767_225_600_000_001
    assert microseconds(datetime(1970, 1, 1, 2, 0, 1, tzinfo=timezone(timedelta(hours=2)))) == 1_000_000


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        microseconds(datetime(2026, 1, 1))


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_the_time_again(time):
    assert moment(microseconds(time)) == time
