"""Ids of events that came without one: unique, and in the order of time."""

from uuid import RFC_4122, UUID

from upnext import event_ids
from upnext.event_ids import new_event_id


def test_ids_are_unique_uuids_of_version_7():
    made = [new_event_id() for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert {(UUID(each).version, UUID(each).variant) for each in made} == {(7, RFC_4122)}


def test_later_ids_sort_behind_and_tell_their_millisecond(monkeypatch):
    moments = [0, 1, 1_795_000_000_000, 2**48 - 1]
    made = []
    for moment in moments:
        monkeypatch.setattr(event_ids, "time_ns", lambda moment=moment: moment * 1_000_000)
        made.append(new_event_id())
    assert made == sorted(made)
    assert [UUID(each).int >> 80 for each in made] == moments
