from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.features import build_features
from components.materialise import materialise
from feature_repo.layout import layouts
from feature_repo.offline import aligned, snapshot
from feature_repo.packed import PackedFeatures
from feature_repo.rows import RowSnapshots, keep_catalogue
from feature_repo.specs import VIDEO_VIEW, VIEWS
from tests.support.small_log import END, small_log
from upnext.contracts import EVENTS
from upnext.errors import MissingData
from upnext.stores import Stores


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


def test_everything_is_there_and_a_second_run_writes_nothing(stores: Stores) -> None:
    add_events(stores, event(0, "watch", 1), event(1, "impression", 1), event(2, "like", 91))
    build_features(stores.lake, END, END, threads=1)
    counts = materialise(stores, stores.settings, END)
    assert counts == {
        "user_features": 12,
        "video_features": 25,
        "videos": 25,
        "users": 11,
        "events": 1,
    }
    packed = PackedFeatures(stores.online_features, layouts())
    for view in VIEWS:
        ids, rows = snapshot(stores.lake, view, END)
        np.testing.assert_array_equal(packed.read_matrix(view, ids), rows)
    assert stores.catalogue.count() == 25
    assert stores.profiles.get("u1") is not None
    assert stores.history.recent("u1", END)["event_type"].to_pylist() == ["watch"]
    assert set(materialise(stores, stores.settings, END).values()) == {0.0}


def test_only_what_is_new_is_brought_over(stores: Stores) -> None:
    build_features(stores.lake, END, END, threads=1)
    add_events(stores, event(0, "watch", 5))
    materialise(stores, stores.settings, END)
    add_events(stores, event(1, "like", 2), event(2, "watch", -0.5))
    counts = materialise(stores, stores.settings, END)
    assert counts == {"user_features": 0, "video_features": 0, "videos": 0, "users": 0, "events": 1}
    later = END + timedelta(days=1)
    build_features(stores.lake, later, later, threads=1)
    counts = materialise(stores, stores.settings, later)
    assert (counts["user_features"], counts["events"]) == (12, 1)


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
