"""What every store of experiments must do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from upnext.contracts import EXPOSURES
from upnext.errors import MissingData, StoreReadOnly
from upnext.experiments import Experiment, parse
from upnext.ports import Experiments

PORT = "experiments"
AT = datetime(2026, 6, 1, 12, 0, 0, 1, UTC)


def experiment(name: str = "one", **changes: Any) -> Experiment:
    variants = [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5, "parameters": {"rules.x": 1.5}}]
    return parse({"name": name, "layer": "ranking", "variants": variants, "start": AT} | changes)


def exposures(*rows: tuple[str, str, str, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(EXPOSURES.names, (*row, AT), strict=True)) for row in rows], schema=EXPOSURES
    )


@pytest.fixture
def store(site: Any) -> Experiments:
    return site.open()


def test_a_definition_comes_back_whole(store: Experiments) -> None:
    whole = experiment(
        range=[0.25, 0.5],
        ramp=0.1,
        eligibility={"surfaces": ["home"], "regions": ["日本"]},
        overrides={"tester": "b"},
        stop=datetime(2026, 7, 1, tzinfo=UTC),
    )
    store.put(whole)
    assert store.all() == [whole]


def test_put_replaces_by_name_and_all_are_in_order(store: Experiments) -> None:
    for each in (experiment("two"), experiment("one"), experiment("one", ramp=0.5)):
        store.put(each)
    assert [(each.name, each.ramp) for each in store.all()] == [("one", 0.5), ("two", 1.0)]


def test_hold_outs_are_by_layer(store: Experiments) -> None:
    assert store.holdouts() == {}
    for layer, share in (("", 0.05), ("ranking", 0.1), ("ranking", 0.2)):
        store.hold_out(layer, share)
    assert store.holdouts() == {"": 0.05, "ranking": 0.2}


def test_an_exposure_counts_once_a_day_and_the_first_one_stands(store: Experiments) -> None:
    assert store.expose(exposures(("2026-06-01", "one", "u", "a"), ("2026-06-01", "one", "w", "b"))) == 2
    again = exposures(("2026-06-01", "one", "u", "b"), ("2026-06-02", "one", "u", "a"))
    assert store.expose(again) == 1
    assert store.exposures().to_pylist() == (
        exposures(
            ("2026-06-01", "one", "u", "a"), ("2026-06-01", "one", "w", "b"), ("2026-06-02", "one", "u", "a")
        ).to_pylist()
    )
    assert store.exposures("2026-06-02")["user_id"].to_pylist() == ["u"]
    assert store.expose(EXPOSURES.empty_table()) == 0


def test_forget_and_purge(store: Experiments) -> None:
    store.expose(exposures(*[(f"2026-06-0{day}", "one", user, "a") for day in (1, 2) for user in "uw"]))
    assert store.forget("u") == 2
    assert store.forget("u") == 0
    assert store.purge("2026-06-02") == 1
    assert store.exposures()["date"].to_pylist() == ["2026-06-02"]


def test_a_forgotten_tester_is_in_no_definition(store: Experiments) -> None:
    for name, testers in (("one", {"u": "b", "w": "a"}), ("two", {"w": "b"}), ("three", {"u": "a"})):
        store.put(experiment(name, overrides=testers))
    store.expose(exposures(("2026-06-01", "one", "u", "b")))
    assert store.forget("u") == 3
    assert store.forget("u") == 0
    assert store.all() == [
        experiment("one", overrides={"w": "a"}),
        experiment("three"),
        experiment("two", overrides={"w": "b"}),
    ]


def test_a_missing_column_is_named(store: Experiments) -> None:
    with pytest.raises(MissingData, match="exposures have no column 'variant'"):
        store.expose(exposures(("2026-06-01", "one", "u", "a")).drop_columns(["variant"]))


def test_many_threads_count_an_exposure_once(store: Experiments) -> None:
    def work(thread: int) -> int:
        return store.expose(
            exposures(("2026-06-01", "one", "shared", "a"), ("2026-06-01", "one", str(thread), "a"))
        )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(24)))
    assert store.exposures().num_rows == 25


def test_all_is_there_after_closing(site: Any, store: Experiments) -> None:
    store.put(experiment())
    site.close()
    assert [each.name for each in site.open().all()] == ["one"]


def test_a_read_only_store_is_told_with_its_place_and_a_remedy(
    site: Any, refuse_writes: Callable[[], str]
) -> None:
    site.open().put(experiment())
    site.close()
    named = refuse_writes()
    with pytest.raises(StoreReadOnly, match=named):
        site.open().put(experiment("two"))


def test_ping_says_something(store: Experiments) -> None:
    assert store.ping()
