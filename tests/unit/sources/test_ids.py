"""Deterministic ids of rows."""

from uuid import UUID

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from upnext.sources.ids import row_fractions, row_ids

TEXTS = st.lists(
    st.tuples(st.none() | st.text(max_size=8), st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=20
)


def ids(rows: list[tuple[str | None, int | None]]) -> list[str]:
    texts, numbers = ([row[place] for row in rows] for place in (0, 1))
    return row_ids(pa.array(texts, pa.string()), pa.array(numbers, pa.int64()), "kind").to_pylist()


@given(TEXTS)
def test_ids_are_equal_exactly_where_rows_are(rows: list[tuple[str | None, int | None]]) -> None:
    found = ids(rows)
    assert len(set(found)) == len(set(rows))
    assert all(UUID(one).version == 8 and str(UUID(one)) == one for one in found)
    assert found == [one for row in rows for one in ids([row])]


def test_order_of_columns_and_constants_matter() -> None:
    a, b = pa.array(["x"]), pa.array(["y"])
    assert len({row_ids(*columns)[0].as_py() for columns in ((a, b), (b, a), (a, b, "z"), (a, "y", b))}) == 4


def test_ids_stay_what_they_were() -> None:
    """The lake knows events by these: a change would count every event twice."""
    assert ids([("a", 1), (None, None)]) == PINNED


def test_chunks_do_not_matter() -> None:
    whole = pa.chunked_array([["a", "b", "a"]])
    parts = pa.chunked_array([["a"], ["b", "a"]])
    assert row_ids(whole).equals(row_ids(parts))


def test_fractions_spread_evenly() -> None:
    numbers = row_fractions(pa.array(np.arange(20_000)))
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, 10, (0, 1))[0]
    assert np.abs(counts - 2_000).max() < 5 * np.sqrt(2_000)


PINNED = ["5bcbed1d-c96f-8f44-902d-2e657df542d3", "764ce014-ab4c-8249-bc76-caa2b110691c"]
