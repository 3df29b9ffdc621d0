import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import components.materialise as materialising
from components.features import SNAPSHOT, build_features
from components.marks import Marks
from components.materialise import materialise
from feature_repo.layout import layouts
from feature_repo.offline import aligned, snapshot, snapshot_name
from feature_repo.packed import PackedFeatures
from feature_repo.repo import feature_store
from feature_repo.rows import RowSnapshots, keep_catalogue
from feature_repo.specs import TIMESTAMP, USER, VIDEO_VIEW, VIEWS
from models.columns import micros
from tests.support.small_log import END, TIME, small_log
from upnext.contracts import EVENTS, VIDEOS
from upnext.errors import MissingData
from upnext.settings import Settings
from upnext.stores import Stores, connect

NOTHING = dict.fromkeys(
    ("user_features", "video_features", "creator_features", "videos", "users", "events", "deleted"), 0
)
HOUR = timedelta(hours=1)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with small_log().write(tmp_path) as opened:
        yield opened


def event(place: int, kind: str, days_ago: float) -> dict[str, object]:
    row = dict.fromkeys(EVENTS.names) | {"event_id": f"e{place}", "user_id": "u1", "video_id": "v1"}
    watched = 4_000 if kind == "watch" else None
    return row | {
        "event_type": kind,
        "timestamp": END - timedelta(days=days_ago),
        "watch_duration_ms": watched,
    }


def add_events(stores: Stores, *rows: dict[str, object]) -> None:
    stores.lake.append("events", pa.Table.from_pylist(list(rows), EVENTS))


def snapshot_of(stores: Stores, at: datetime, users: dict[str, float]) -> None:
    """Take a snapshot of users by hand: every feature of one has the value given."""
    rows = [{USER.key: name, **dict.fromkeys(USER.names, value)} for name, value in users.items()]
    types = [(USER.key, pa.string()), *((name, pa.float32()) for name in USER.names)]
    table = pa.Table.from_pylist(rows, pa.schema(types))
    table = table.append_column(TIMESTAMP, pa.array([at] * len(rows), TIME))
    table = table.append_column(SNAPSHOT, pa.array([snapshot_name(at)] * len(rows)))
    stores.lake.append(USER.table, table, [SNAPSHOT])


def users_held(stores: Stores, names: str) -> list[float | None]:
    """The first feature of users, None for those that the store does not have."""
    packed = PackedFeatures(stores.online_features, layouts())
    values = packed.read(USER.name, list(names))
    rows = packed.unpack(USER.name, values).rows
    return [None if value is None else float(row[0]) for value, row in zip(values, rows, strict=True)]


def contents(stores: Stores) -> dict[str, Any]:
    """Everything that materialising wrote."""
    packed = PackedFeatures(stores.online_features, layouts())
    held = {view: packed.read(view, snapshot(stores.lake, view, END)[0]) for view in VIEWS}
    people = [f"u{place}" for place in range(12)]
    return {
        **held,
        "videos": pa.concat_tables(stores.catalogue.scan()).to_pylist(),
        "users": [stores.profiles.get(user) for user in people],
        "history": [stores.history.recent(user, END, 10_000).to_pylist() for user in people],
    }


def test_everything_is_there_and_a_second_run_writes_nothing(stores: Stores) -> None:
    add_events(stores, event(0, "watch", 1), event(1, "impression", 1), event(2, "like", 91))
    build_features(stores.lake, END, END, threads=1)
    told: list[int] = []
    counts = materialise(stores, stores.settings, END, progress=lambda done, _: told.append(done))
    written = {
        "user_features": 12,
        "video_features": 25,
        "creator_features": 5,
        "videos": 25,
        "users": 11,
        "events": 1,
    }
    assert counts == NOTHING | written
    assert told == sorted(told) and told[-1] == sum(written.values())
    packed = PackedFeatures(stores.online_features, layouts())
    for view in VIEWS:
        ids, rows = snapshot(stores.lake, view, END)
        np.testing.assert_array_equal(packed.read_matrix(view, ids), rows)
    assert stores.catalogue.count() == 25
    assert stores.profiles.get("u1") is not None
    assert stores.history.recent("u1", END)["event_type"].to_pylist() == ["watch"]
    told_feast = feature_store(stores.settings).get_feature_view(USER.name).materialization_intervals
    assert [last for _, last in told_feast] == [END]
    assert materialise(stores, stores.settings, END) == NOTHING


def test_only_what_is_new_is_brought_over(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    add_events(stores, event(0, "watch", 5))
    materialise(stores, stores.settings, END)
    add_events(stores, event(1, "like", 2), event(2, "watch", -0.5))
    assert materialise(stores, stores.settings, END) == NOTHING | {"events": 1}
    later = END + timedelta(days=1)
    build_features(stores.lake, later, later, threads=1)
    changed = pa.Table.from_pylist(stores.lake.read("videos").to_pylist()[4:6], VIDEOS)
    place = VIDEOS.get_field_index("title")
    changed = changed.set_column(place, "title", pa.array(["New", "Newer"]))
    stores.lake.merge("videos", changed, ["video_id"], update=True)
    counts = materialise(stores, stores.settings, later)
    assert (counts["videos"], counts["users"], counts["events"]) == (2, 0, 1)
    assert sorted(stores.catalogue.get(changed["video_id"].to_pylist())["title"].to_pylist()) == [
        "New",
        "Newer",
    ]


def test_entities_are_written_when_they_change_and_deleted_when_they_vanish(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)  # of the videos
    snapshot_of(stores, END + HOUR, {"a": 1, "b": 1, "c": 1})
    snapshot_of(stores, END + 2 * HOUR, {"a": 1, "b": 2, "d": 1})
    materialise(stores, stores.settings, END + HOUR)
    counts = materialise(stores, stores.settings, END + 2 * HOUR)
    assert (counts["user_features"], counts["deleted"]) == (2, 1)
    assert users_held(stores, "abcd") == [1, 2, None, 1]
    packed = PackedFeatures(stores.online_features, layouts())
    stamps = packed.unpack(USER.name, packed.read(USER.name, ["a", "b"])).timestamps
    assert stamps.tolist() == [int(micros(pa.array([END + n * HOUR]))[0]) for n in (1, 2)]


def test_what_a_run_left_half_done_is_not_trusted_by_the_next(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b goes from 1 to 2 and back to 1; e comes and goes: neither may stay as the broken run left it."""
    build_features(stores.lake, END, END, threads=1)
    for hours, users in enumerate(({"a": 1, "b": 1}, {"a": 1, "b": 2, "e": 1}, {"a": 1, "b": 1}), 1):
        snapshot_of(stores, END + hours * HOUR, users)
    materialise(stores, stores.settings, END + HOUR)

    def killed(self: object, *arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(materialising._Run, "_register", killed)
        materialise(stores, stores.settings, END + 2 * HOUR)
    assert users_held(stores, "abe") == [1, 2, 1]
    materialise(stores, stores.settings, END + 3 * HOUR)
    assert users_held(stores, "abe") == [1, 1, None]


def test_a_snapshot_that_was_taken_anew_is_brought_over_whole(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    snapshot_of(stores, END + HOUR, {"a": 1, "b": 1})
    materialise(stores, stores.settings, END + HOUR)
    stores.lake.delete(USER.table, f"{SNAPSHOT} = '{snapshot_name(END + HOUR)}'")
    snapshot_of(stores, END + HOUR, {"a": 2, "b": 1})
    assert materialise(stores, stores.settings, END + HOUR) == NOTHING | {"user_features": 2}
    stores.lake.delete(USER.table, f"{SNAPSHOT} = '{snapshot_name(END + HOUR)}'")
    snapshot_of(stores, END + 2 * HOUR, {"a": 2, "b": 3})
    assert materialise(stores, stores.settings, END + 2 * HOUR) == NOTHING | {"user_features": 2}
    assert users_held(stores, "ab") == [2, 3]


def test_a_store_that_was_lost_is_filled_again(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    materialise(stores, stores.settings, END)
    PackedFeatures(stores.online_features, layouts()).drop(USER.name)
    assert materialise(stores, stores.settings, END) == NOTHING | {"user_features": 12}


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
import components.materialise as m
from upnext.settings import Settings
from upnext.stores import connect

m.ROWS, m.EVENT_ROWS, m.GROUP_ROWS = 5, 10, 20
left = int(sys.argv[2])

def told(done, total):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(home=Path(sys.argv[1]))
with connect(settings) as stores:
    m.materialise(stores, settings, datetime.fromisoformat(sys.argv[3]), progress=told)
"""


def test_killed_runs_go_on_where_they_were_and_end_with_the_same(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL after 4 batches (in the features), then 6 (in the tables), then 10 (in the events)."""
    log = [event(place, "watch", place / 5) for place in range(80)]
    whole = small_log().write(tmp_path_factory.mktemp("whole"))
    for each in (stores, whole):
        add_events(each, *log)
        build_features(each.lake, END, END, threads=1)
    home, batches = stores.settings.home, []
    stores.close()
    for patience in (4, 6, 10):
        command = [sys.executable, "-c", KILLED, str(home), str(patience), END.isoformat()]
        child = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
        assert child.returncode == -signal.SIGKILL
        batches.append(json.loads((home / "default" / "materialised.json").read_text()))
    with connect(Settings(home=home)) as opened:
        counts = materialise(opened, opened.settings, END)
        assert 0 < counts["events"] < 80 and counts["user_features"] == counts["videos"] == 0
        materialise(whole, whole.settings, END)
        assert contents(opened) == contents(whole)
    whole.close()
    assert "user_features" in batches[0] and "video_features.partial" in batches[0]
    assert "video_features" in batches[1] and "videos.partial" in batches[1]
    assert "events.partial" in batches[2]


def test_rows_of_the_catalogues_in_use_are_written_anew(stores: Stores) -> None:
    state, layout = stores.settings.state, layouts()[VIDEO_VIEW]
    order = ["v3", "v1", "unheard of"]
    digest = keep_catalogue(state, order)
    for at in (END, END + timedelta(hours=1)):
        build_features(stores.lake, at, at, threads=1)
        materialise(stores, stores.settings, at)
        rows = RowSnapshots(state, VIDEO_VIEW, layout, digest).look()
        assert rows is not None and rows.generation.as_of == at.isoformat()
        np.testing.assert_array_equal(
            rows.gather(np.arange(3, dtype=np.int32)), aligned(stores.lake, VIDEO_VIEW, at, order)
        )


def test_without_snapshots_it_says_what_to_run(stores: Stores) -> None:
    with pytest.raises(MissingData, match="upnext step features"):
        materialise(stores, stores.settings, END)


def test_marks_go_on_after_what_was_done_of_the_same_value(tmp_path: Path) -> None:
    def bring(value: str, most: int) -> list[int]:
        marks, done = Marks(tmp_path / "marks.json"), []
        for part in marks.batches("rows", value, 10, 3):
            if len(done) == most:
                return done
            done.append(part.start)
        marks.reach("rows", value)
        return done

    assert bring("one", 2) == [0, 3]
    assert bring("one", 9) == [6, 9]
    assert Marks(tmp_path / "marks.json").get("rows") == "one"
    assert bring("two", 1) == [0]
    assert Marks(tmp_path / "marks.json").partial("rows") == ("two", 3)
    assert bring("three", 9) == [0, 3, 6, 9]
