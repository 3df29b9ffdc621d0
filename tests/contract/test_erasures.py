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


def test_it_is_there_after_closing(site: Any, erasures: Erasures) -> None:
    erasures.remember("p1", NOW)
    site.close()
    assert site.open().all() == {"p1": NOW}


def test_ping_says_something(erasures: Erasures) -> None:
    assert erasures.ping()
