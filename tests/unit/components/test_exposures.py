"""Exposures reach the lake once each, also those that are late, and leave the store when they are safe."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from components.exposures import bring_in
from upnext.contracts import EXPOSURES
from upnext.erased import Erased
from upnext.settings import Settings
from upnext.stores import connect


@pytest.fixture
def stores(tmp_path):
    with connect(Settings(home=tmp_path)) as opened:
        yield opened


def expose(stores, day, *users):
    rows = [
        dict(
            zip(
                EXPOSURES.names,
                (f"2026-06-{day:02d}", "one", user, "a", datetime(2026, 6, day, tzinfo=UTC)),
                strict=True,
            )
        )
        for user in users
    ]
    stores.experiments.expose(pa.Table.from_pylist(rows, schema=EXPOSURES))


def held(table):
    return sorted(zip(table["date"].to_pylist(), table["user_id"].to_pylist(), strict=True))


def test_the_erased_stay_out(stores):
    expose(stores, 1, "u", "w")
    erased = Erased(b"key", {}).including("u", datetime(2026, 6, 2, tzinfo=UTC))
    assert bring_in(stores.experiments, stores.lake, erased) == 1
    assert held(stores.lake.read("exposures")) == [("2026-06-01", "w")]


def test_each_comes_once_and_old_ones_leave_the_store(stores):
    assert bring_in(stores.experiments, stores.lake) == 0
    assert stores.lake.version("exposures") < 0
    expose(stores, 1, "u", "w")
    assert bring_in(stores.experiments, stores.lake) == 2
    version = stores.lake.version("exposures")
    assert bring_in(stores.experiments, stores.lake) == 0
    expose(stores, 5, "u")
    expose(stores, 1, "late")
    assert bring_in(stores.experiments, stores.lake) == 2
    assert stores.lake.version("exposures") > version
    assert bring_in(stores.experiments, stores.lake) == 0
    expected = [("2026-06-01", "late"), ("2026-06-01", "u"), ("2026-06-01", "w"), ("2026-06-05", "u")]
    assert held(stores.lake.read("exposures")) == expected
    assert held(stores.experiments.exposures()) == [("2026-06-05", "u")]
