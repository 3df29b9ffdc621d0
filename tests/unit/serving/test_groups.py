"""Groups with rows put before or behind the others: as if grouped at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.groups import Groups

CODES = st.lists(st.integers(-1, 5), max_size=12)


@given(CODES, CODES)
def test_rows_behind_the_others_are_those_of_no_merit(known: list[int], late: list[int]) -> None:
    codes = np.array(known + late, np.int64)
    merit = np.arange(len(codes), 0, -1.0)  # so that later rows come later
    n = len(known)
    base = Groups.by(codes[:n], merit[:n], np.ones(n, bool), max(known, default=-1) + 1)
    rows = np.arange(n, len(codes), dtype=np.int32)
    whole = Groups.by(codes, merit, np.ones(len(codes), bool), 6)
    grown = base.with_last(codes[n:], rows, 6)
    assert grown.rows.tolist() == whole.rows.tolist() and grown.bounds.tolist() == whole.bounds.tolist()
    merit[n:] += 100
    whole = Groups.by(codes, merit, np.ones(len(codes), bool), 6)
    grown = base.with_first(codes[n:], rows, 6)
    assert grown.rows.tolist() == whole.rows.tolist() and grown.bounds.tolist() == whole.bounds.tolist()
