"""What every register of erasures must do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from upnext.ports import Erasures

PORT = "erasures"
NOW = datetime(2026, 11, 24, 13, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def erasures(site: Any) -> Erasures:
    return site.open()


def test_the_last_erasure_of_a_person_counts(erasures: Erasures) -> None:
    assert erasures.all() == {}
    erasures.remember("p1", NOW)
    erasures.remember("p2", NOW)
    erasures.remember("p1", NOW + timedelta(days=1))
    assert erasures.all() == {"p1": NOW + timedelta(days=1), "p2": NOW}


def test_what_others_remember_meanwhile_is_told_whatever_their_clock_says(site: Any) -> None:
    reader, writer = site.open(), site.open()
    for day in range(10):
        writer.remember(f"p{day}", NOW + timedelta(days=day))
    assert len(reader.all()) == 10
    for person, hours in (("new", 1), ("late", -23), ("p0", -1)):
        writer.remember(person, NOW + timedelta(days=9, hours=hours))
    fresh = site.open().all()
    assert reader.all() == fresh and len(fresh) == 12
    assert fresh["p0"] == NOW + timedelta(days=9, hours=-1)


def test_an_erasure_from_the_future_hides_no_later_one(site: Any) -> None:
    reader, writer, now = site.open(), site.open(), datetime.now(UTC)
    writer.remember("ahead", now + timedelta(days=365))
    assert reader.all().keys() == {"ahead"}
    writer.remember("p1", now)
    assert reader.all() == {"ahead": now + timedelta(days=365), "p1": now}


def test_it_is_there_after_closing(site: Any, erasures: Erasures) -> None:
    erasures.remember("p1", NOW)
    site.close()
    assert site.open().all() == {"p1": NOW}


def test_ping_says_something(erasures: Erasures) -> None:
    assert erasures.ping()
