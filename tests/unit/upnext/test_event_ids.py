"""Ids of events that came without one: unique, in the order of time, so that an index grows at its end."""

from uuid import RFC_4122, UUID

from upnext.contracts import Event


def test_ids_that_we_give_are_unique_uuids_in_the_order_of_time():
    made = [Event(user_id="u", event_type="search", query="cats").event_id for _ in range(1_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert {(UUID(each).version, UUID(each).variant) for each in made} == {(7, RFC_4122)}
