"""Ingest into a real lake in a temporary folder: what is added, what is not, and what survives a crash."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import components.ingest as ingesting
import components.outcomes as folding
from components.ingest import ingest
from upnext.contracts import EVENTS, Event
from upnext.errors import EmptyData, StoreUnavailable
from upnext.ports import Lake
from upnext.settings import Settings
from upnext.sources import open_source
from upnext.stores import connect

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Given:
    """A source of rows written in the test, two to a table."""

    dataset = "given"
    timed = True

    def __init__(self, events: list[dict], videos: list[dict] = (), users: list[dict] = ()) -> None:
        self.rows = {"events": events, "videos": list(videos), "users": list(users)}

    def _tables(self, name: str) -> Iterator[pa.Table]:
        rows = self.rows[name]
        for start in range(0, len(rows), 2):
            yield pa.Table.from_pylist(rows[start : start + 2])

    def videos(self) -> Iterator[pa.Table]:
        return self._tables("videos")

    def users(self) -> Iterator[pa.Table]:
        return self._tables("users")

    def events(self, since: datetime | None = None) -> Iterator[pa.Table]:
        return self._tables("events")


def event(name: str, at: datetime = NOON, kind: str = "click", **fields: object) -> dict:
    row = {"event_id": name, "user_id": "u", "event_type": kind, "video_id": "v", "timestamp": at}
    return dict.fromkeys(EVENTS.names) | row | fields


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with connect(Settings(home=tmp_path)) as stores:
        yield stores.lake


def versions(lake: Lake) -> dict[str, int]:
    return {table: lake.version(table) for table in lake.tables()}


def rows(lake: Lake, table: str, *order: str) -> list[dict]:
    return lake.read(table).sort_by([(column, "ascending") for column in order]).to_pylist()


SOME = [
    event("1", kind="impression", request_id="r"),
    event("2", kind="watch", request_id="r", watch_duration_ms=400),
    event("3", NOON + timedelta(days=1), user_id="w"),
    event("4", NOON + timedelta(days=1), kind="search", video_id=None, query="cats"),
]
VIDEOS = [{"video_id": "v", "title": "A film", "duration_ms": 1000}, {"video_id": "x", "title": "Unseen"}]


def test_tables_hold_what_the_source_told(lake: Lake) -> None:
    counts = ingest(Given(SOME, VIDEOS, [{"user_id": "u", "region": "DE"}]), lake)

    assert lake.tables() == ["events", "outcomes", "users", "videos"]
    assert [row["event_id"] for row in rows(lake, "events", "event_id")] == ["1", "2", "3", "4"]
    assert {row["date"] for row in rows(lake, "events", "date")} == {"2026-05-01", "2026-05-02"}
    users = [(row["user_id"], row["region"]) for row in rows(lake, "users", "user_id")]
    assert users == [("u", "DE"), ("w", None)]
    shown, other = rows(lake, "outcomes", "timestamp")
    assert (shown["watch_ms"], shown["watch_fraction"], shown["events"]) == (400, pytest.approx(0.4), 2)
    assert (other["user_id"], other["clicked"], other["shown"]) == ("w", True, False)
    assert counts == {
        "events_read": 4,
        "events_new": 4,
        "events_repeated": 0,
        "events_later": 0,
        "videos_read": 2,
        "videos_changed": 2,
        "videos_by_id_only": 0,
        "users_read": 1,
        "users_changed": 1,
        "users_by_id_only": 1,
        "quarantined": 0,
        "outcomes": 2,
        "days": 2,
        "reasons": {},
    }


def test_a_second_run_changes_nothing(lake: Lake) -> None:
    bad = event("5", watch_duration_ms=-1)
    ingest(Given([*SOME, bad], VIDEOS), lake)
    before = versions(lake)

    counts = ingest(Given([*SOME, bad], VIDEOS), lake)

    assert versions(lake) == before
    assert (counts["events_new"], counts["events_repeated"], counts["days"]) == (0, 4, 0)
    assert (counts["videos_changed"], counts["quarantined"]) == (0, 1)


def test_a_repeated_id_counts_once_within_a_run(lake: Lake) -> None:
    counts = ingest(Given([SOME[0], SOME[0], SOME[1], SOME[0]]), lake)
    assert (counts["events_new"], counts["events_repeated"]) == (2, 2)


def test_events_from_the_interval_s_end_on_are_left_for_the_next(lake: Lake) -> None:
    first = ingest(Given(SOME), lake, until=NOON + timedelta(days=1))
    assert (first["events_new"], first["events_later"]) == (2, 2)

    second = ingest(Given(SOME), lake, until=NOON + timedelta(days=2))
    assert (second["events_new"], second["events_repeated"], second["events_later"]) == (2, 2, 0)


def test_refused_rows_are_kept_with_their_reason_and_counted(lake: Lake) -> None:
    next_week = datetime.now(UTC) + timedelta(days=7)
    bad = [event("5", watch_duration_ms=-1), event("6", kind="dance"), event("7", next_week)]
    counts = ingest(Given([*SOME, *bad], [{"video_id": "v", "duration_ms": 0}]), lake, name="test:here")

    assert counts["quarantined"] == 4
    assert counts["reasons"]["events: watch_duration_ms is negative"] == 1
    assert counts["reasons"]["events: timestamp is in the future"] == 1
    kept = rows(lake, "quarantine", "table", "reason")
    assert [row["table"] for row in kept] == ["events", "events", "events", "videos"]
    assert {row["source"] for row in kept} == {"test:here"}
    assert counts["videos_by_id_only"] == 1


def test_a_simulated_source_has_a_clock_of_its_own(lake: Lake) -> None:
    source = Given([event("1", datetime.now(UTC) + timedelta(days=7))])
    source.simulated = True
    assert ingest(source, lake)["events_new"] == 1


def test_nothing_to_work_on_is_an_error_that_says_why(lake: Lake) -> None:
    with pytest.raises(EmptyData, match=r"given has no event.*refused: 1 × events: event_type is none of"):
        ingest(Given([event("1", kind="dance")]), lake)
    with pytest.raises(EmptyData, match="of 4 good ones 4 are not before 2020"):
        ingest(Given(SOME), lake, until=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_description_that_comes_later_replaces_the_bare_id(lake: Lake) -> None:
    assert ingest(Given(SOME), lake)["videos_by_id_only"] == 1
    counts = ingest(Given(SOME, VIDEOS), lake)
    assert (counts["videos_changed"], counts["events_new"]) == (2, 0)
    assert [row["title"] for row in rows(lake, "videos", "video_id")] == ["A film", "Unseen"]

    renamed = [VIDEOS[0] | {"title": "Another"}, VIDEOS[1]]
    assert ingest(Given(SOME, renamed), lake)["videos_changed"] == 1


def test_only_days_that_new_events_can_touch_are_computed_again(lake: Lake) -> None:
    days = [event(str(day), NOON + timedelta(days=day)) for day in range(10)]
    ingest(Given(days), lake)
    assert ingest(Given([*days, event("late", NOON + timedelta(days=4))]), lake)["days"] == 3


def test_a_run_cut_short_before_the_outcomes_is_made_good(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> None:
        raise StoreUnavailable("the lake does not answer")

    ingest(Given(SOME[:2]), lake)
    with monkeypatch.context() as broken:
        broken.setattr(lake, "overwrite", down)
        with pytest.raises(StoreUnavailable):
            ingest(Given(SOME), lake)
    counts = ingest(Given(SOME), lake)

    assert (counts["events_new"], counts["outcomes"]) == (0, 2)
    assert ingest(Given(SOME), lake)["days"] == 0


def test_any_cut_into_runs_flushes_and_folds_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    wild = [
        event(
            str(number),
            NOON + timedelta(hours=draw.uniform(0, 90)),
            draw.choice(["impression", "click", "watch", "like"]),
            user_id=draw.choice("ab"),
            video_id=draw.choice("vwx"),
            session_id=draw.choice(["s", None]),
            watch_duration_ms=draw.choice([None, 5, 50]),
        )
        for number in range(60)
    ]
    results = []
    for place, (flush, fold, cuts) in enumerate([(1_000, 1_000, 1), (1_000, 1_000, 3), (9, 20, 2)]):
        monkeypatch.setattr(ingesting, "FLUSH_ROWS", flush)
        monkeypatch.setattr(folding, "FOLD_ROWS", fold)
        with connect(Settings(home=tmp_path / str(place))) as stores:
            for cut in range(cuts):
                ingest(Given(wild[cut::cuts]), stores.lake)
            results.append(sorted(map(str, stores.lake.read("outcomes").to_pylist())))
    assert results[0] == results[1] == results[2]


def test_progress_is_told(lake: Lake) -> None:
    seen: list[int] = []
    ingest(Given(SOME), lake, progress=seen.append)
    assert seen == [4]


def test_the_platform_s_own_log_is_read_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dataset="mine")
    moments = [NOON + timedelta(minutes=minute) for minute in range(3)]
    with connect(settings) as stores:
        stores.event_log.append([Event(**event(str(at.minute), at)) for at in moments[:2]])
        source = open_source("log:", settings)
        assert source.dataset == "mine"

        early = ingest(source, stores.lake, until=moments[1])
        assert (early["events_new"], early["events_later"]) == (1, 1)
        assert ingest(open_source("log:", settings), stores.lake)["events_new"] == 1

        stores.event_log.append([Event(**event("2", moments[2]))])
        late = ingest(open_source("log:", settings), stores.lake)
        assert (late["events_read"], late["events_new"]) == (1, 1)
