"""Feast's own interface over the lake's snapshots and the packed store, held against plain Python."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.repo_operations import get_repo_files

import feature_repo
from feature_repo.layout import defaults_of, layout_of, layouts, spec_layout
from feature_repo.offline import (
    SNAPSHOT,
    aligned,
    defaults,
    point_in_time,
    snapshot,
    snapshot_name,
    snapshots,
)
from feature_repo.packed import PackedFeatures
from feature_repo.pages import PAGE, page
from feature_repo.repo import feature_store
from feature_repo.specs import (
    CREATOR,
    OWNER,
    STREAMS,
    TIMESTAMP,
    USER,
    USER_STREAM,
    VIDEO,
    VIDEO_STREAM,
    VIEWS,
    ViewSpec,
)
from feature_repo.vectors import rounded
from feature_repo.views import RANKER, TWO_TOWER
from tests.support.small_log import END, START, TIME
from upnext.errors import LayoutMismatch, MissingData, NotFound
from upnext.settings import Settings
from upnext.stores import Stores, connect

TIMES = [START + timedelta(hours=hour) for hour in (0, 24, 36, 48)]
IDS = {USER.name: ["u0", "u1", "u2"], VIDEO.name: ["v0", "v1", "v2", "v3"], CREATOR.name: ["k0", "k1"]}


def feature_rows(view: ViewSpec, at: datetime, ids: list[str], seed: int) -> pa.Table:
    rows = np.random.default_rng(seed).random((len(ids), len(view.names)), np.float32)
    columns = {view.key: ids, **{name: rows[:, place] for place, name in enumerate(view.names)}}
    table = rounded(view, pa.table(columns), {}).append_column(TIMESTAMP, pa.array([at] * len(ids), TIME))
    return table.append_column(SNAPSHOT, pa.array([snapshot_name(at)] * len(ids)))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("feast"))


@pytest.fixture(scope="module")
def stores(settings: Settings) -> Iterator[Stores]:
    """A lake in which u2 and v3 appear with the third snapshot only."""
    with connect(settings) as opened:
        for view in VIEWS.values():
            for place, at in enumerate(TIMES):
                ids = IDS[view.name] if place >= 2 else IDS[view.name][:-1]
                opened.lake.append(view.table, feature_rows(view, at, ids, place), [SNAPSHOT])
        yield opened


@pytest.fixture(scope="module")
def store(settings: Settings, stores: Stores) -> FeatureStore:
    return feature_store(settings)


def brute_force(stores: Stores, view: ViewSpec, entity: str, at: datetime) -> list[float]:
    """The newest row of an entity at or before a time, else the defaults."""
    rows = stores.lake.read(view.table).to_pylist()
    old = [row for row in rows if row[view.key] == entity and row[TIMESTAMP] <= at]
    newest = max(old, key=lambda row: row[TIMESTAMP], default=None)
    return [newest[name] for name in view.names] if newest else defaults(view.name).tolist()


def test_point_in_time_join_is_the_brute_force_one(stores: Stores, store: FeatureStore) -> None:
    rng = np.random.default_rng(0)
    exact = [time + timedelta(microseconds=step) for time in TIMES for step in (-1, 0, 1)]
    anywhere = [START + timedelta(seconds=int(second)) for second in rng.integers(-9_000, 250_000, 40)]
    times = exact + anywhere
    users = rng.choice([*IDS[USER.name], "stranger"], len(times)).tolist()
    videos = rng.choice([*IDS[VIDEO.name], "unknown"], len(times)).tolist()
    ts = (
        np.array([(time - START) // timedelta(microseconds=1) for time in times])
        + int(START.timestamp()) * 10**6
    )
    of_users, of_videos = point_in_time(store, pa.array(users), pa.array(videos), ts)
    for view, entities, found in ((USER, users, of_users), (VIDEO, videos, of_videos)):
        wanted = [brute_force(stores, view, one, at) for one, at in zip(entities, times, strict=True)]
        np.testing.assert_array_equal(found, np.array(wanted, np.float32))


def test_no_rows_to_join(store: FeatureStore) -> None:
    none = pa.array([], pa.string())
    users, videos = point_in_time(store, none, none, np.empty(0, np.int64))
    assert users.shape == (0, len(USER.names)) and videos.shape == (0, len(VIDEO.names))


def test_a_feature_outlives_its_ttl_only_when_it_has_none(stores: Stores, store: FeatureStore) -> None:
    import pandas as pd

    view = store.get_feature_view(VIDEO.name)
    view.ttl = timedelta(hours=1)
    rows = pd.DataFrame({VIDEO.key: ["v0", "v0"], TIMESTAMP: [END, TIMES[-1] + timedelta(minutes=59)]})
    joined = store._get_provider().get_historical_features(
        store.config, [view], [f"{VIDEO.name}:ctr"], rows, store.registry, store.project, False
    )
    values = joined.to_arrow()["ctr"].to_pylist()
    assert values[0] is None
    assert values[1] == brute_force(stores, VIDEO, "v0", TIMES[-1])[VIDEO.names.index("ctr")]


def test_snapshots_are_listed_and_read_as_of_a_time(stores: Stores) -> None:
    assert snapshots(stores.lake, VIDEO.name) == TIMES
    ids, rows = snapshot(stores.lake, VIDEO.name, TIMES[1] + timedelta(hours=5))
    assert ids == ["v0", "v1", "v2"]
    np.testing.assert_array_equal(rows[1], np.float32(brute_force(stores, VIDEO, "v1", TIMES[1])))
    filled = aligned(stores.lake, VIDEO.name, TIMES[1], ["v3", "v0"])
    np.testing.assert_array_equal(filled[0], defaults(VIDEO.name))
    np.testing.assert_array_equal(
        filled[1], rows[0] * 0 + np.float32(brute_force(stores, VIDEO, "v0", TIMES[1]))
    )
    with pytest.raises(MissingData, match="upnext step features"):
        snapshot(stores.lake, VIDEO.name, START - timedelta(seconds=1))
    with pytest.raises(NotFound, match="user_features, video_features, creator_features"):
        snapshots(stores.lake, "channel_features")


def test_materialised_by_feast_or_directly_the_online_store_holds_the_same(
    stores: Stores, store: FeatureStore
) -> None:
    since = START - timedelta(days=1)
    store.materialize(since, END, feature_views=list(VIEWS), disable_event_timestamp=False)
    packed = PackedFeatures(stores.online_features, layouts())
    for view in VIEWS.values():
        ids, rows = snapshot(stores.lake, view.name, END)
        np.testing.assert_array_equal(packed.read_matrix(view.name, ids), rows)
        by_feast = packed.read(view.name, ids)
        packed.write_matrix(view.name, ids, rows, int(TIMES[-1].timestamp()) * 10**6)
        assert packed.read(view.name, ids) == by_feast
    answer = store.get_online_features(
        store.get_feature_service(RANKER),
        [{"user_id": "u1", "video_id": "v2"}, {"user_id": "u1", "video_id": "unknown"}],
        full_feature_names=True,
    ).to_dict()
    for name, value in zip(VIDEO.names, brute_force(stores, VIDEO, "v2", END), strict=True):
        assert answer[f"{VIDEO.name}__{name}"] == [value, None]
    for name, value in zip(USER.names, brute_force(stores, USER, "u1", END), strict=True):
        assert answer[f"{USER.name}__{name}"] == [value, value]


def test_each_model_has_a_service_of_what_it_reads(store: FeatureStore) -> None:
    services = {service.name: service for service in store.list_feature_services()}
    read = {
        name: {projection.name: len(projection.features) for projection in service.feature_view_projections}
        for name, service in services.items()
    }
    assert read[TWO_TOWER] == {VIDEO.name: 32}
    assert set(read[RANKER]) == {USER.name, VIDEO.name, USER_STREAM.name, VIDEO_STREAM.name}
    assert all(service.owner and service.description for service in services.values())


def test_what_is_pushed_to_a_stream_view_is_served_and_packed(stores: Stores, store: FeatureStore) -> None:
    import pandas as pd

    values = {name: [float(place)] for place, name in enumerate(VIDEO_STREAM.names)}
    row = pd.DataFrame({VIDEO.key: ["v1"], TIMESTAMP: [datetime.now(UTC)], **values})
    store.push(f"{VIDEO_STREAM.name}_push", row)
    packed = PackedFeatures(stores.online_features, {VIDEO_STREAM.name: spec_layout(VIDEO_STREAM)})
    assert packed.read_matrix(VIDEO_STREAM.name, ["v1"]).tolist() == [list(range(len(VIDEO_STREAM.names)))]
    asked = [f"{VIDEO_STREAM.name}:clicks_5m", f"{USER_STREAM.name}:session_depth"]
    answer = store.get_online_features(asked, [{"user_id": "u1", "video_id": "v1"}]).to_dict()
    assert answer["clicks_5m"] == [1.0] and answer["session_depth"] == [None]


def test_a_release_of_another_layout_is_refused(stores: Stores, store: FeatureStore) -> None:
    from models.layout import FeatureLayout

    packed = PackedFeatures(stores.online_features, {VIDEO.name: FeatureLayout.of(VIDEO.names[:-1])})
    stores.online_features.put(f"{VIDEO.name}@{layouts()[VIDEO.name].hash[:12]}", ["v0"], [b"x"])
    with pytest.raises(LayoutMismatch, match="materialise again"):
        packed.read_matrix(VIDEO.name, ["v0"])


def test_every_feature_is_described(store: FeatureStore) -> None:
    for spec in (*VIEWS.values(), *STREAMS.values()):
        view = store.get_feature_view(spec.name)
        assert [field.name for field in view.features] == list(spec.names)
        for field in view.features:
            assert field.description and field.tags["unit"] and field.tags["owner"] == OWNER
        assert view.owner and view.description
        assert spec_layout(spec) == layout_of(view)
        assert defaults_of(view).tolist() == np.float32([each.default for each in spec.features]).tolist()
    assert 200 <= spec_layout(VIDEO).size <= 400


def test_the_page_of_features_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `.venv/bin/python -m feature_repo docs`"


def test_feast_reads_the_definitions_and_nothing_else() -> None:
    folder = Path(feature_repo.__file__).parent
    assert [file.name for file in get_repo_files(folder)] == ["definitions.py"]


def environment(home: Path) -> dict[str, str]:
    return {"UPNEXT_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home)}


def run(home: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "feature_repo", *arguments]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_feasts_own_commands_apply_and_then_plan_nothing(tmp_path: Path) -> None:
    applied = run(tmp_path, "apply", "--skip-source-validation")
    for name in (*VIEWS, *STREAMS):
        assert f"infrastructure for {name}" in applied
    planned = run(tmp_path, "plan", "--skip-source-validation")
    assert "No changes to registry" in planned and "Created" not in planned, planned
