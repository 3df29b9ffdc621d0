from threading import Event

import pytest

from serving.deadlines import BUSY, Deadlines, Trace


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


def test_timings_add_up():
    trace = Trace()
    for _ in range(2):
        with trace.timed("rank"):
            pass
    assert trace.timings_ms["rank"] >= 0 and list(trace.timings_ms) == ["rank"]
