"""A store that fails is left alone, tried with one call, and trusted again when that is good."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from prometheus_client import CollectorRegistry

from serving.breakers import FAILURES, HANGING, REST_S, Breaker, BreakerOpen, Breakers, State
from upnext.errors import CorruptData, NotFound, StoreUnavailable

LIMIT_S = 0.1


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("store", clock)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made


def good(breaker):
    return breaker.call(lambda: "good", LIMIT_S)


def bad(breaker, error=StoreUnavailable):
    def work():
        raise error("away")

    with pytest.raises(error):
        breaker.call(work, LIMIT_S)


def open_up(breaker):
    for _ in range(FAILURES):
        bad(breaker)
    assert breaker.state is State.OPEN


def refused(breaker):
    with pytest.raises(BreakerOpen, match="store failed lately"):
        breaker.call(lambda: pytest.fail("the store was asked"), LIMIT_S)


def hang(breaker, pool, release, number):
    """Calls that are under way when this returns, and end when ``release`` is set."""
    begun = Barrier(number + 1)

    def work():
        begun.wait(10)
        release.wait(10)

    calls = [pool.submit(breaker.call, work, LIMIT_S) for _ in range(number)]
    begun.wait(10)
    return calls


def test_only_failures_in_a_row_open_it(breaker):
    for _ in range(5):
        for _ in range(FAILURES - 1):
            bad(breaker)
        assert good(breaker) == "good"
    open_up(breaker)
    refused(breaker)


@pytest.mark.parametrize("error", [NotFound, CorruptData])
def test_a_store_that_answers_no_is_well(breaker, error):
    for _ in range(2 * FAILURES):
        bad(breaker, error)
    assert breaker.state is State.CLOSED


def test_an_answer_that_is_late_is_a_failure(breaker, clock):
    def slow():
        clock.now += LIMIT_S + 0.01
        return "late"

    for _ in range(FAILURES):
        assert breaker.call(slow, LIMIT_S) == "late"
    assert breaker.state is State.OPEN


def test_calls_that_hang_open_it_before_they_come_back(breaker, clock, pool):
    release = Event()
    calls = hang(breaker, pool, release, FAILURES)
    assert breaker.state is State.CLOSED
    clock.now += LIMIT_S + 0.01
    assert breaker.state is State.OPEN
    refused(breaker)
    release.set()
    for call in calls:
        call.result(10)
    assert breaker.state is State.OPEN  # that they came in the end says nothing


def test_after_its_rest_one_call_tries_the_store(breaker, clock, pool):
    open_up(breaker)
    clock.now += REST_S - 0.01
    refused(breaker)
    assert not breaker.due
    clock.now += 0.02
    assert breaker.state is State.HALF_OPEN and breaker.due
    release = Event()
    (trial,) = hang(breaker, pool, release, 1)
    assert breaker.state is State.HALF_OPEN and not breaker.due
    refused(breaker)
    release.set()
    trial.result(10)
    assert breaker.state is State.CLOSED
    for _ in range(FAILURES - 1):  # it begins to count anew
        bad(breaker)
    assert breaker.state is State.CLOSED


def test_a_trial_that_fails_or_is_late_opens_it_again(breaker, clock, pool):
    open_up(breaker)
    clock.now += REST_S
    bad(breaker)
    assert breaker.state is State.OPEN
    clock.now += REST_S
    release = Event()
    (trial,) = hang(breaker, pool, release, 1)
    clock.now += LIMIT_S + 0.01
    assert breaker.state is State.OPEN
    release.set()
    trial.result(10)
    assert breaker.state is State.OPEN


def test_while_too_many_calls_hang_the_store_is_not_tried(breaker, clock, pool):
    release = Event()
    calls = hang(breaker, pool, release, HANGING)
    clock.now += LIMIT_S + 0.01
    assert breaker.state is State.OPEN
    clock.now += REST_S
    refused(breaker)
    assert breaker.state is State.OPEN and not breaker.due
    release.set()
    for call in calls:
        call.result(10)
    assert good(breaker) == "good" and breaker.state is State.CLOSED


def test_calls_run_side_by_side(breaker, pool):
    release = Event()
    calls = hang(breaker, pool, release, 8)  # which returns when all eight are under way
    assert good(breaker) == "good"
    release.set()
    for call in calls:
        call.result(10)


def test_the_state_of_each_store_is_a_gauge():
    registry = CollectorRegistry()
    breakers = Breakers(registry)
    good(breakers.of("one"))
    open_up(breakers.of("store"))

    def states(store):
        labels = ({"store": store, "state": state} for state in ("closed", "half_open", "open"))
        return [registry.get_sample_value("upnext_breaker_state", each) for each in labels]

    assert states("one") == [1, 0, 0]
    assert states("store") == [0, 0, 1]
    assert breakers.of("store") is breakers.of("store")
