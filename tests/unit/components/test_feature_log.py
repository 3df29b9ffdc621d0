"""Logged features reach the lake once each, and leave it with the events' retention."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import components.feature_log as bringing
from components.feature_log import TABLE, bring_in
from tests.contract.test_feature_log import START, answer
from upnext.contracts import LOGGED_FEATURES
from upnext.erased import Erased
from upnext.errors import StoreUnavailable
from upnext.settings import Settings
from upnext.sources.log import LogSource
from upnext.stores import Stores, connect

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with connect(Settings(home=tmp_path, dataset="tiny")) as opened:
        yield opened


def taken(stores: Stores, oldest: datetime = LONG_AGO) -> int:
    return bring_in(LogSource("", stores.settings), stores.lake, oldest)


def held(stores: Stores) -> pa.Table:
    order = [("timestamp", "ascending"), ("position", "ascending")]
    return stores.lake.read(TABLE, LOGGED_FEATURES.names).sort_by(order)


def test_rows_arrive_as_they_were_logged_and_only_once(stores: Stores) -> None:
    day = answer(2, timestamp=START + timedelta(days=1))
    stores.feature_log.append(pa.concat_tables([answer(1), day]))
    assert taken(stores) == 4
    assert held(stores).equals(pa.concat_tables([answer(1), day]).cast(held(stores).schema))
    assert stores.lake.partitions(TABLE, "date") == ["2026-11-01", "2026-11-02"]
    version = stores.lake.version(TABLE)
    assert taken(stores) == 0
    assert stores.lake.version(TABLE) == version
    stores.feature_log.append(answer(3))
    assert taken(stores) == 2


def test_what_was_written_before_a_crash_is_not_written_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise StoreUnavailable("killed between the lake and the position")

    stores.feature_log.append(answer(1))
    with monkeypatch.context() as broken, pytest.raises(StoreUnavailable):
        broken.setattr(bringing, "_forget_before", crash)
        taken(stores)
    stores.feature_log.append(answer(2))
    assert taken(stores) == 2
    assert held(stores)["request_id"].to_pylist() == ["r1", "r1", "r2", "r2"]


def test_the_erased_stay_out_from_the_next_batch_on(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upnext.sources.log._ANSWERS", 2)
    people = ["u", "w", "u", "w"]
    stores.feature_log.append(pa.concat_tables(answer(n, 1, user_id=who) for n, who in enumerate(people)))
    nobody = Erased(b"key", {})
    register = iter([nobody, nobody.including("u", START + timedelta(hours=1))])
    source = LogSource("", stores.settings)
    assert bring_in(source, stores.lake, LONG_AGO, lambda: next(register)) == 3
    assert held(stores)["request_id"].to_pylist() == ["r0", "r1", "r3"]


def test_a_video_that_an_answer_repeats_counts_once(stores: Stores) -> None:
    stores.feature_log.append(answer(1, video_id="same"))
    assert taken(stores) == 1


def test_what_is_older_than_events_are_kept_is_dropped(stores: Stores) -> None:
    old = answer(1, timestamp=START - timedelta(days=3))
    stores.feature_log.append(pa.concat_tables([old, answer(2)]))
    assert taken(stores) == 4
    assert taken(stores, START) == 0
    assert held(stores)["request_id"].to_pylist() == ["r2", "r2"]
    assert stores.feature_log.read().rows["request_id"].to_pylist() == ["r2", "r2"]
