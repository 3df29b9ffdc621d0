from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.examples import CONTEXT, ExamplesConfig, ExampleSet, build_examples, labels_of, load_layouts
from components.features import build_features
from components.split import split_times, time_span
from feature_repo.context import CONTEXT_HISTORY, context_features
from feature_repo.offline import SNAPSHOT, snapshot, snapshot_name, snapshots
from feature_repo.specs import TIMESTAMP, USER, VIDEO, VIEWS
from models.columns import micros
from models.dataset import Dataset, Examples
from tests.support.small_log import END, START, TIME, Log, outcome, outcomes, small_log
from upnext.errors import MissingData
from upnext.stores import Stores

CONFIG = ExamplesConfig(negatives=2)


def prepared(home: Path, **log: int) -> Stores:
    """Stores whose lake has a log and its snapshots."""
    stores = small_log(**log).write(home)
    first, until = time_span(stores.lake, END)
    cut = START + timedelta(microseconds=split_times(first, until).history_end - micros_of(START))
    build_features(stores.lake, cut, END, every=timedelta(days=2), threads=1)
    return stores


def micros_of(time: Any) -> int:
    return int(time.timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with prepared(tmp_path_factory.mktemp("examples")) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(stores: Stores) -> ExampleSet:
    return build_examples(stores.lake, stores.settings, END, CONFIG)


def everything(made: ExampleSet) -> list[Examples]:
    return [made.examples[part] for part in ("train", "valid", "holdout")]


def columns(rows: Examples) -> dict[str, np.ndarray]:
    found = {column.name: getattr(rows, column.name) for column in fields(rows) if column.name != "labels"}
    return found | rows.labels


def test_parts_hold_the_outcomes_of_their_time(stores: Stores, made: ExampleSet) -> None:
    times = micros(stores.lake.read("outcomes")["timestamp"])
    split = made.split
    for name, start, end in (
        ("train", split.history_end, split.valid_start),
        ("valid", split.valid_start, split.holdout_start),
        ("holdout", split.holdout_start, split.until),
    ):
        rows = made.examples[name]
        labelled = ~np.isnan(rows.labels["like"])
        assert sorted(rows.ts[labelled]) == sorted(times[(times >= start) & (times < end)])
        assert (len(rows) > labelled.sum()) == (name != "holdout")


def test_features_are_those_of_the_newest_snapshot_not_later(stores: Stores, made: ExampleSet) -> None:
    taken = snapshots(stores.lake, VIDEO.name)
    held = {(view, at): snapshot(stores.lake, view, at) for view in (USER.name, VIDEO.name) for at in taken}
    for rows in everything(made):
        for view, ids, block, entity in (
            (USER, made.users, rows.user_features, rows.user),
            (VIDEO, made.catalogue.ids, rows.video_features, rows.video),
        ):
            for place in range(0, len(rows), 7):
                at = max(time for time in taken if micros_of(time) <= rows.ts[place])
                known, features = held[view.name, at]
                wanted = (
                    features[known.index(ids[entity[place]])]
                    if ids[entity[place]] in known
                    else np.array([feature.default for feature in view.features], np.float32)
                )
                np.testing.assert_array_equal(block[place], wanted)


def test_contexts_are_what_serving_would_compute(stores: Stores, made: ExampleSet) -> None:
    rows = made.examples["holdout"]
    log = {(o["user_id"], micros_of(o["timestamp"])): o for o in stores.lake.read("outcomes").to_pylist()}
    for place in range(0, len(rows), 5):
        came = log[made.users[rows.user[place]], rows.ts[place]]
        history = made.interactions.histories(rows.user[[place]], rows.ts[[place]], CONTEXT_HISTORY)
        alone = context_features(
            made.layouts[CONTEXT], rows.ts[[place]], [came["surface"]], [came["device"]], history
        )
        np.testing.assert_array_equal(rows.context[place], alone[0])


def test_sampled_negatives_were_not_shown_and_existed(stores: Stores, made: ExampleSet) -> None:
    log = stores.lake.read("outcomes").to_pylist()
    met = {(o["user_id"], o["video_id"], o["date"]) for o in log}
    for rows in everything(made)[:2]:
        sampled = np.isnan(rows.labels["like"])
        assert sampled.any() and not rows.shown[sampled].any()
        assert (rows.position[sampled] == -1).all()
        assert (rows.labels["click"][sampled] == 0).all() and np.isnan(rows.labels["watch_s"][sampled]).all()
        assert np.isin(rows.request[sampled], rows.request[~sampled]).all()
        for place in np.flatnonzero(sampled):
            day = str(np.datetime64(int(rows.ts[place]), "us").astype("datetime64[D]"))
            assert (made.users[rows.user[place]], made.catalogue.ids[rows.video[place]], day) not in met
            assert made.catalogue.uploaded_at[rows.video[place]] < rows.ts[place]


def test_a_slate_lies_together_and_stays_in_one_viewer(made: ExampleSet) -> None:
    for rows in everything(made):
        assert (np.diff(rows.request) >= 0).all()
        for slate in np.unique(rows.request):
            assert len(set(rows.user[rows.request == slate])) == 1


def test_labels_hand_worked() -> None:
    log = outcomes(
        [
            outcome("u1", "v1", START),
            outcome("u1", "v2", START, clicked=True, watched=True, watch_ms=2_500, watch_fraction=0.5),
            outcome("u1", "v3", START, watched=True, watch_fraction=1.0, shown=False),
            outcome("u1", "v4", START, liked=True, shared=True, watched=True, watch_ms=9, watch_fraction=0.6),
            outcome("u1", "v5", START, not_interested=True),
        ]
    )
    labels = {head: label.tolist() for head, label in labels_of(log).items()}
    assert labels["click"] == [0, 1, 1, 0, 0]
    assert labels["long_view"] == [0, 0, 1, 1, 0]
    assert labels["like"] == labels["share"] == [0, 0, 0, 1, 0]
    assert labels["not_interested"] == [0, 0, 0, 0, 1]
    assert labels["watch_s"][:2] == [0, 2.5] and np.isnan(labels["watch_s"][2])
    assert labels["watch_s"][3] == pytest.approx(0.009)


def test_two_runs_give_the_same_bytes_and_survive_saving(
    stores: Stores, made: ExampleSet, tmp_path: Path
) -> None:
    again = build_examples(stores.lake, stores.settings, END, CONFIG)
    again.save(tmp_path)
    loaded = Dataset.load(tmp_path)
    assert load_layouts(tmp_path) == made.layouts == again.layouts
    for part, rows in made.examples.items():
        for name, column in columns(rows).items():
            assert columns(loaded.examples[part])[name].tobytes() == column.tobytes(), name


def test_whole_slates_are_drawn_when_there_are_too_many(stores: Stores, made: ExampleSet) -> None:
    few = build_examples(stores.lake, stores.settings, END, ExamplesConfig(negatives=0, max_train=60, seed=1))
    rows, whole = few.examples["train"], made.examples["train"]
    assert 0 < len(rows) <= 60
    sizes = {
        slate: int((~np.isnan(whole.labels["like"][whole.request == slate])).sum()) for slate in rows.request
    }
    assert all(int((rows.request == slate).sum()) == size for slate, size in sizes.items())


def knows_only_the_past(stores: Stores) -> bool:
    """Whether each snapshot is what comes out when all that was not known before it is taken away."""
    for at in snapshots(stores.lake, USER.name):
        log = small_log()
        known = log.outcomes.filter(pa.array(micros(log.outcomes["engaged_at"]) < micros_of(at)))
        with Log(known, log.videos, log.users).write(stores.settings.home / f"{at:%d%H}") as past:
            build_features(past.lake, at, at, threads=1)
            for view in VIEWS:
                if snapshot(past.lake, view, at)[1].tobytes() != snapshot(stores.lake, view, at)[1].tobytes():
                    return False
    return True


def test_a_planted_leak_is_caught(tmp_path: Path) -> None:
    before = END - timedelta(days=1)
    with small_log().write(tmp_path) as stores:
        build_features(stores.lake, before, END, threads=1)
        assert knows_only_the_past(stores)
        table = stores.lake.read(USER.table)
        late = table.filter(pc.equal(table[SNAPSHOT], snapshot_name(END))).drop_columns([SNAPSHOT, TIMESTAMP])
        late = late.append_column(TIMESTAMP, pa.array([before] * len(late), TIME))
        late = late.append_column(SNAPSHOT, pa.array([snapshot_name(before)] * len(late)))
        stores.lake.overwrite(USER.table, late, [SNAPSHOT], where=f"{SNAPSHOT} = '{snapshot_name(before)}'")
        assert not knows_only_the_past(stores)


def test_no_layouts_where_no_examples_are(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="upnext step examples"):
        load_layouts(tmp_path)
