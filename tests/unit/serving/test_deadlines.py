from functools import partial
from threading import Event, current_thread
from time import monotonic

import pytest

from serving import breakers
from serving.breakers import FAILURES, Breaker, Guarded
from serving.deadlines import BUSY, HELD_UP_S, Deadlines, Trace


@pytest.fixture
def skips():
    return []


@pytest.fixture
def deadlines(skips):
    made = Deadlines(threads=8, on_skip=lambda part, why: skips.append((part, why)))
    yield made
    made.close()


def test_results_come_in_the_order_of_the_parts(deadlines, skips):
    trace = Trace()
    assert list(deadlines.gather({"b": lambda: 1, "a": lambda: 2}, 5.0, trace)) == ["b", "a"]
    assert not skips and not trace.skipped


def test_a_failing_part_is_named_and_left_out(deadlines, skips):
    trace = Trace()
    parts = {"good": lambda: 1, "bad": lambda: 1 // 0}
    assert deadlines.gather(parts, 5.0, trace) == {"good": 1}
    assert skips == [("bad", "error")] and "ZeroDivisionError" in trace.skipped["bad"]


def test_a_late_part_is_left_out_and_skipped_at_once_while_it_hangs(deadlines, skips):
    release = Event()
    parts = {"slow": release.wait, "quick": lambda: 1}
    for _ in range(BUSY):
        assert deadlines.gather(parts, 0.5, Trace()) == {"quick": 1}
    assert skips == [("slow", "late")] * BUSY
    deadlines.gather(parts, 0.02, Trace())
    assert skips[-1] == ("slow", "busy")
    release.set()
    deadlines.close()


def test_a_part_is_asked_again_once_its_late_calls_have_ended(deadlines, skips):
    release = Event()
    for _ in range(BUSY):
        deadlines.gather({"slow": release.wait}, 0.01, Trace())
    release.set()
    deadlines._pool.shutdown(wait=True)
    assert deadlines._late["slow"] == 0


def test_parts_that_share_threads_keep_their_order_and_fail_alone(deadlines, skips):
    took: set[str] = set()

    def part(value):
        took.add(current_thread().name)
        return 6 // value

    parts = {name: partial(part, value) for name, value in zip("abcde", (1, 0, 2, 3, 6), strict=True)}
    found = deadlines.gather(parts, 5.0, Trace(), threads=2)
    assert list(found.items()) == [("a", 6), ("c", 3), ("d", 2), ("e", 1)]
    assert skips == [("b", "error")] and len(took) <= 2


def test_parts_that_hang_do_not_hold_up_those_that_share_their_threads(deadlines, skips):
    release = Event()
    parts = {"slow": release.wait, "stuck": release.wait, "quick": lambda: 1, "last": lambda: 2}
    assert deadlines.gather(parts, 1.0, Trace(), threads=2) == {"quick": 1, "last": 2}
    assert skips == [("slow", "late"), ("stuck", "late")]
    release.set()


def test_what_no_thread_took_in_time_is_late_and_never_called(deadlines, skips):
    release = Event()
    parts = {"slow": release.wait, "next": lambda: pytest.fail("it was called")}
    assert deadlines.gather(parts, HELD_UP_S / 2, Trace(), threads=1) == {}
    assert skips == [("slow", "late"), ("next", "late")] and not deadlines._late["next"]
    release.set()
    deadlines._pool.shutdown(wait=True)


def test_timings_add_up():
    trace = Trace()
    for _ in range(2):
        with trace.timed("rank"):
            pass
    assert trace.timings_ms["rank"] >= 0 and list(trace.timings_ms) == ["rank"]


def failing():
    raise OSError("away")


def opened():
    breaker = Breaker("store")
    for _ in range(FAILURES):
        with pytest.raises(OSError, match="away"):
            breaker.call(failing, 1.0)
    return breaker


def test_a_part_whose_breaker_is_open_is_skipped_without_being_called(deadlines, skips):
    trace = Trace()
    part = Guarded(opened(), lambda: pytest.fail("it was called"), 1.0)
    assert deadlines.gather({"part": part, "other": lambda: 1}, 5.0, trace) == {"other": 1}
    assert skips == [("part", "open")]
    assert trace.skipped == {"part": "open: store failed lately and is left alone"}


def test_no_request_waits_for_the_call_that_tries_a_store(deadlines, skips, monkeypatch):
    monkeypatch.setattr(breakers, "REST_S", 0.0)
    release, breaker = Event(), opened()
    part = Guarded(breaker, lambda: release.wait(20), 30.0)
    assert deadlines.gather({"part": part}, 30.0, Trace()) == {}
    assert skips == [("part", "open")] and not breaker.due
    release.set()
    deadlines._pool.shutdown(wait=True)
    assert breaker.state is breakers.State.CLOSED


def test_each_part_has_its_limit_or_what_is_left_of_the_budget(deadlines, skips):
    release = Event()
    trace = Trace.within(0.2)
    before = monotonic()
    assert deadlines.gather({"one": release.wait}, 30.0, trace) == {}
    assert 0.2 <= monotonic() - before < 10
    assert deadlines.gather({"two": lambda: pytest.fail("it was called")}, 30.0, trace) == {}
    assert trace.skipped["one"].startswith("late: took longer than 2") and skips[1] == ("two", "late")
    assert trace.skipped["two"] == "late: no time was left"
    release.set()


def test_a_part_knows_the_request_that_it_is_of(deadlines):
    trace = Trace()
    assert deadlines.gather({"part": Trace.current}, 5.0, trace)["part"] is trace
    assert Trace.current() is not trace
