"""What is accepted and refused at the door, and what is said about it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.intake import check, take_in
from upnext.contracts import Event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
GOOD = {"user_id": "u", "video_id": "v", "event_type": "click", "timestamp": "2026-11-23T11:59:00Z"}


class Log:
    """An event log that keeps what it is given."""

    def __init__(self):
        self.ids = []
        self.appends = 0

    def append(self, events):
        self.appends += 1
        new = []
        for event in events:
            new.append(event.event_id not in self.ids)
            self.ids.append(event.event_id)
        return new


def test_a_good_event_is_written():
    log = Log()
    receipt = take_in([GOOD | {"event_id": "e1"}], log, NOW, MONTH)
    assert (receipt.accepted, receipt.repeated, receipt.refused) == (1, 0, [])
    assert receipt.event_ids == log.ids == ["e1"]


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"event_type": "stare"}, "3.event_type", "'impression', 'click'"),
        (
            {"event_type": "watch", "watch_duration_ms": -5},
            "3.watch_duration_ms",
            "greater than or equal to 0",
        ),
        ({"event_type": "watch"}, "3", "watch_duration_ms is missing"),
        ({"event_type": "search"}, "3", "query is missing"),
        ({"video_id": None}, "3", "video_id is missing"),
        ({"user_id": ""}, "3.user_id", "at least 1 character"),
        ({"user_id": 7}, "3.user_id", "valid string"),
        ({"timestamp": "2026-11-30T12:00:00Z"}, "3.timestamp", "7 days ahead of the server's clock"),
        ({"timestamp": "2026-11-23T12:06:00Z"}, "3.timestamp", "6 minutes ahead"),
        ({"timestamp": "2026-10-01T12:00:00Z"}, "3.timestamp", "older than 30 days"),
        ({"timestamp": "2026-11-23T11:00:00"}, "3", "no time zone"),
        ({"timestamp": "yesterday"}, "3.timestamp", "valid datetime"),
        ({"mood": "good"}, "3.mood", "Extra inputs"),
    ],
)
def test_a_bad_event_is_refused_with_field_value_and_reason(changes, field, says):
    refused = check(GOOD | {"event_id": "e"} | changes, 3, NOW, MONTH)
    assert (refused.index, refused.event_id) == (3, "e")
    assert refused.errors[0].field == field
    assert says in refused.errors[0].reason


@pytest.mark.parametrize("raw", [None, 7, "event", [], [GOOD], {}])
def test_what_is_no_event_is_refused(raw):
    assert check(raw, 0, NOW, MONTH).errors


def test_a_clock_slightly_ahead_is_forgiven():
    assert isinstance(check(GOOD | {"timestamp": "2026-11-23T12:04:59Z"}, 0, NOW, MONTH), Event)


def test_the_good_are_written_beside_the_refused_in_one_append():
    log = Log()
    receipt = take_in([GOOD | {"event_id": "a"}, {}, GOOD | {"event_id": "b"}, 5], log, NOW, MONTH)
    assert log.appends == 1 and log.ids == ["a", "b"]
    assert [refused.index for refused in receipt.refused] == [1, 3]


def test_repeats_count_once():
    log = Log()
    receipt = take_in([GOOD | {"event_id": "a"}] * 3, log, NOW, MONTH)
    assert (receipt.accepted, receipt.repeated) == (1, 2)
    assert take_in([GOOD | {"event_id": "a"}], log, NOW, MONTH).accepted == 0


def test_nothing_good_writes_nothing():
    log = Log()
    assert len(take_in([{}, None], log, NOW, MONTH).refused) == 2
    assert log.appends == 0


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
        max_leaves=6,
    )
)
def test_whatever_comes_is_answered(raw):
    receipt = take_in([raw], Log(), NOW, MONTH)
    assert receipt.accepted + len(receipt.refused) == 1
