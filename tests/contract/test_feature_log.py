"""What every log of features must do."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from upnext.contracts import LOGGED_FEATURES
from upnext.errors import CorruptData, InvalidRequest, MissingData, StoreReadOnly
from upnext.ports import FeatureLog

PORT = "feature_log"
START = datetime(2026, 11, 1, tzinfo=UTC)
WIDTHS = {"user": 5, "context": 3, "video": 4, "cross": 6}


def answer(number: int, items: int = 2, **fields: Any) -> pa.Table:
    """An answer of some items, with random blocks: the same number gives the same bytes."""
    rng = np.random.default_rng(number)
    one = {name: rng.normal(size=width).astype("<f4").tobytes() for name, width in WIDTHS.items()}
    rows = [
        {
            **dict.fromkeys(LOGGED_FEATURES.names),
            **one,
            "request_id": f"r{number}",
            "user_id": "u",
            "video_id": f"v{place}",
            "position": place,
            "timestamp": START + timedelta(seconds=number),
            "computed_for": START,
            "surface": "home",
            "release": "1",
            "schema": "abc",
            "video": rng.normal(size=WIDTHS["video"]).astype("<f4").tobytes(),
            **fields,
        }
        for place in range(items)
    ]
    return pa.Table.from_pylist(rows, LOGGED_FEATURES)


def requests(log: FeatureLog, **arguments: Any) -> list[str]:
    return log.read(**arguments).rows["request_id"].unique().to_pylist()


@pytest.fixture
def log(site: Any) -> FeatureLog:
    return site.open()


def test_answers_come_back_whole_and_in_order(log: FeatureLog) -> None:
    full = answer(1, 3, user_id="ユーザー", user_snapshot=START, region="日本", device="tv", language="ja")
    assert log.append(pa.concat_tables([answer(2), full])) == 2
    assert log.append(answer(0, 30)) == 1
    batch = log.read()
    assert batch.rows.schema == LOGGED_FEATURES
    assert batch.rows == pa.concat_tables([answer(2), full, answer(0, 30)])


def test_nothing_is_nothing(log: FeatureLog) -> None:
    assert log.append(LOGGED_FEATURES.empty_table()) == 0
    batch = log.read()
    assert (batch.rows.num_rows, batch.position) == (0, "")


def test_a_request_counts_once(log: FeatureLog) -> None:
    assert log.append(pa.concat_tables([answer(1), answer(2), answer(1)])) == 2
    assert log.append(answer(2)) == 0
    assert requests(log) == ["r1", "r2"]


def test_what_does_not_fit_the_contract_is_refused_whole(log: FeatureLog) -> None:
    with pytest.raises(MissingData, match="cross"):
        log.append(answer(1).drop_columns(["cross"]))
    empty = pa.array([None, None], pa.binary())
    with pytest.raises(CorruptData, match="user"):
        log.append(answer(1).set_column(LOGGED_FEATURES.get_field_index("user"), "user", empty))
    assert log.read().rows.num_rows == 0


def test_reading_goes_on_after_a_position(log: FeatureLog) -> None:
    for number in range(5):
        log.append(answer(number))
    batch = log.read(limit=2)
    assert batch.rows["request_id"].unique().to_pylist() == ["r0", "r1"]
    assert requests(log, after=batch.position) == ["r2", "r3", "r4"]
    last = log.read(after=batch.position).position
    again = log.read(after=last)
    assert (again.rows.num_rows, again.position) == (0, last)


def test_a_position_that_is_none_is_refused(log: FeatureLog) -> None:
    with pytest.raises(InvalidRequest, match="position"):
        log.read(after="yesterday")


def test_each_group_has_its_position(log: FeatureLog, site: Any) -> None:
    log.append(answer(1))
    assert log.committed("ingest") == ""
    position = log.read().position
    log.commit("ingest", position)
    other = site.open()
    assert (other.committed("ingest"), other.committed("audit")) == (position, "")


def test_purge_drops_exactly_what_is_older_and_positions_stay_true(log: FeatureLog) -> None:
    for number in range(4):
        log.append(answer(number))
    position = log.read(limit=4).position
    assert log.purge(START + timedelta(seconds=2)) == 2
    assert requests(log) == ["r2", "r3"]
    assert log.purge(START + timedelta(days=1)) == 2
    log.append(answer(9))
    assert requests(log, after=position) == ["r9"]


def test_a_user_is_forgotten_with_all_answers(log: FeatureLog) -> None:
    log.append(pa.concat_tables([answer(1), answer(2, user_id="other"), answer(3)]))
    assert log.forget("u") == 2
    assert requests(log) == ["r2"]
    assert log.forget("u") == 0


def test_many_threads_append_at_once(log: FeatureLog) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda number: log.append(answer(number % 40)), range(80))) == 40
    assert sorted(requests(log)) == sorted(f"r{number}" for number in range(40))


def test_what_was_acknowledged_survives_a_kill(site: Any) -> None:
    url = site.settings.url(PORT)
    script = (
        "import sys\n"
        "from tests.contract.test_feature_log import answer\n"
        "from upnext.settings import Settings\n"
        "from upnext.stores import connect\n"
        f"log = connect(Settings(dataset='default', feature_log_url={url!r})).feature_log\n"
        "for number in range(10_000):\n"
        "    log.append(answer(number))\n"
        "    print(number, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().split()]
    child.stdout.close()
    child.wait()
    found = requests(site.open(), limit=100_000)
    assert found[: len(told)] == [f"r{number}" for number in told]


def test_a_log_that_refuses_to_write_says_so(log: FeatureLog, seal: Callable[[], None], site: Any) -> None:
    log.append(answer(1))
    site.close()
    seal()
    with pytest.raises(StoreReadOnly):
        site.open().append(answer(2))
