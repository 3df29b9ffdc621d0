from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.features import build_features
from components.materialise import materialise
from feature_repo.layout import layouts
from feature_repo.offline import snapshot
from feature_repo.packed import PackedFeatures
from feature_repo.specs import VIEWS
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
        "creator_features": 5,
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
    assert counts.pop("events") == 1 and set(counts.values()) == {0.0}
    later = END + timedelta(days=1)
    build_features(stores.lake, later, later, threads=1)
    counts = materialise(stores, stores.settings, later)
    assert (counts["user_features"], counts["events"]) == (12, 1)


def test_without_snapshots_it_says_what_to_run(stores: Stores) -> None:
    with pytest.raises(MissingData, match="upnext step features"):
        materialise(stores, stores.settings, END)
