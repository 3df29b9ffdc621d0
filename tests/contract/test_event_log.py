"""What every event log must do."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from upnext.contracts import EVENTS, Event, EventType
from upnext.errors import InvalidRequest, StoreReadOnly
from upnext.ports import EventLog

PORT = "event_log"
START = datetime(2026, 11, 1, tzinfo=UTC)


def watch(number: int, **fields: Any) -> Event:
    given = {"event_id": f"e{number}", "user_id": "u", "video_id": "v", "watch_duration_ms": number} | fields
    return Event(event_type=EventType.WATCH, timestamp=START + timedelta(seconds=number), **given)


def ids(log: EventLog, **arguments: Any) -> list[str]:
    return log.read(**arguments).events["event_id"].to_pylist()


@pytest.fixture
def log(site: Any) -> EventLog:
    return site.open()


def test_events_come_back_whole_and_in_order(log: EventLog) -> None:
    full = Event(
        event_id="é🎬-1",
        user_id="ユーザー",
        event_type=EventType.SEARCH,
        query="как готовить",
        timestamp=datetime(2026, 11, 23, 7, 30, 0, 123456, timezone(timedelta(hours=8))),
        session_id="s",
        request_id="r",
        surface="search",
        position=3,
        device="phone",
        region="日本",
        propensity=0.25,
    )
    assert log.append([watch(1), full]) == [True, True]
    batch = log.read()
    assert batch.events.schema == EVENTS
    first, second = batch.events.to_pylist()
    assert first["watch_duration_ms"] == 1 and first["query"] is None
    assert second == full.model_dump() | {"timestamp": datetime(2026, 11, 22, 23, 30, 0, 123456, UTC)}


def test_a_repeat_counts_once(log: EventLog) -> None:
    assert log.append([watch(1), watch(2), watch(1)]) == [True, True, False]
    assert log.append([watch(2, user_id="another"), watch(3)]) == [False, True]
    assert ids(log) == ["e1", "e2", "e3"]


def test_nothing_to_append(log: EventLog) -> None:
    assert log.append([]) == []
    batch = log.read()
    assert (batch.events.num_rows, batch.position) == (0, "")
    assert batch.events.schema == EVENTS


def test_reading_goes_on_where_it_stopped(log: EventLog) -> None:
    log.append([watch(number) for number in range(10)])
    seen, position = [], ""
    while (batch := log.read(position, limit=3)).events.num_rows:
        assert batch.events.num_rows <= 3
        seen += batch.events["event_id"].to_pylist()
        position = batch.position
    assert seen == [f"e{number}" for number in range(10)]
    assert batch.position == position
    log.append([watch(10)])
    assert ids(log, after=position) == ["e10"]


def test_a_position_that_nobody_gave_is_refused(log: EventLog) -> None:
    with pytest.raises(InvalidRequest, match="'yesterday'"):
        log.read("yesterday")


def test_each_group_has_its_own_position(log: EventLog) -> None:
    log.append([watch(1), watch(2)])
    assert log.committed("features") == ""
    first = log.read(limit=1).position
    log.commit("features", first)
    log.commit("lake", log.read().position)
    assert log.committed("features") == first
    assert ids(log, after=log.committed("features")) == ["e2"]
    assert ids(log, after=log.committed("lake")) == []
    log.commit("features", log.read().position)
    assert ids(log, after=log.committed("features")) == []


def test_purge_drops_what_is_older_and_positions_stay_true(log: EventLog) -> None:
    log.append([watch(number) for number in range(4)])
    before = log.read().position
    assert log.purge(START + timedelta(seconds=2)) == 2
    assert ids(log) == ["e2", "e3"]
    assert log.purge(START + timedelta(days=1)) == 2
    assert log.purge(START + timedelta(days=1)) == 0
    log.append([watch(9)])
    assert ids(log, after=before) == ["e9"], "a position must not be given twice, even in an emptied log"


def test_forget_removes_one_user_and_positions_stay_true(log: EventLog) -> None:
    log.append([watch(1), watch(2, user_id="o'brien"), watch(3), watch(4, user_id="o'brien")])
    before = log.read().position
    assert log.forget("o'brien") == 2
    assert log.forget("o'brien") == 0
    assert log.forget("u' OR ''='") == 0
    assert ids(log) == ["e1", "e3"]
    log.append([watch(5, user_id="o'brien")])
    assert ids(log, after=before) == ["e5"], "who comes back is taken in again"


def test_an_empty_log_forgets_nobody(log: EventLog) -> None:
    assert log.forget("u") == 0


def test_appends_of_many_threads_are_each_whole_and_once(log: EventLog) -> None:
    def append(thread: int) -> int:
        shared = 1000
        batches = ([watch(10 * thread + turn), watch(shared + turn)] for turn in range(10))
        return sum(sum(log.append(batch)) for batch in batches)

    with ThreadPoolExecutor(16) as threads:
        new = sum(threads.map(append, range(16)))
    assert new == 170
    found = ids(log)
    assert len(found) == len(set(found)) == 170
    own = [int(name[1:]) for name in found if int(name[1:]) < 1000]
    assert all([n for n in own if n // 10 == t] == list(range(10 * t, 10 * t + 10)) for t in range(16))


def test_a_waiting_reader_wakes_up_when_an_event_comes(log: EventLog) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(log.read, wait_s=30.0)
        log.append([watch(1)])
        assert waiting.result(timeout=10).events["event_id"].to_pylist() == ["e1"]
    assert log.read(log.read().position, wait_s=0.01).events.num_rows == 0


def test_another_client_sees_the_events_and_the_position(site: Any, log: EventLog) -> None:
    other = site.open()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(other.read, wait_s=30.0)
        log.append([watch(1)])
        batch = waiting.result(timeout=10)
    other.commit("features", batch.position)
    assert other.append([watch(1)]) == [False]
    assert log.committed("features") == batch.position


def test_all_is_there_after_closing(site: Any, log: EventLog) -> None:
    log.append([watch(1)])
    log.commit("features", log.read().position)
    site.close()
    again = site.open()
    assert ids(again) == ["e1"]
    assert again.append([watch(1), watch(2)]) == [False, True]
    assert ids(again, after=again.committed("features")) == ["e2"]


ACKNOWLEDGE = """
import sys
from threading import Thread
from upnext.contracts import Event
from upnext.settings import Settings
from upnext.stores import connect

log = connect(Settings.model_validate_json(sys.argv[1])).event_log

def append():
    while True:
        batch = [Event(user_id="u", event_type="like", video_id="v") for _ in range(5)]
        log.append(batch)
        sys.stdout.write("".join(f"{event.event_id}\\n" for event in batch))
        sys.stdout.flush()

for _ in range(4):
    Thread(target=append).start()
"""


def test_what_was_acknowledged_survives_sigkill(site: Any) -> None:
    command = [sys.executable, "-c", ACKNOWLEDGE, site.settings.model_dump_json()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [next(child.stdout) for _ in range(300)]
    child.send_signal(signal.SIGKILL)
    acknowledged += child.stdout  # what was still in the pipe when it died
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    whole = {line.strip() for line in acknowledged if len(line) == len(f"{uuid4()}\n")}
    assert len(whole) >= 300
    found = ids(site.open(), limit=1_000_000)
    assert len(found) == len(set(found))
    assert whole <= set(found)


def test_a_read_only_folder_is_told_with_path_and_remedy(site: Any, seal: Callable[[], None]) -> None:
    site.open().append([watch(1)])
    site.close()
    seal()
    with pytest.raises(StoreReadOnly, match=f"{site.settings.home}.*UPNEXT_HOME"):
        site.open().append([watch(2)])


def test_ping_says_something(log: EventLog) -> None:
    assert log.ping()
