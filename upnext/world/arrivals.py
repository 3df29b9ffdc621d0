"""When a viewer joined or a video was uploaded: in row order, at random access, without end.

Rows below the initial number came before the start, more of them lately; after it they come at a steady rate.
Row i has its own stretch of time and falls somewhere within it, so times rise with rows whatever is drawn.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.world.config import DAILY_GROWTH, DAY_US, START_US
from upnext.world.draws import Stream, keys_at, uniform

RECENCY = 1.5


def arrival_us(
    seed: int, stream: Stream, rows: NDArray[np.int64], initial: int, span_days: int
) -> NDArray[np.int64]:
    """When each row arrived, in µs since 1970: int64[n]; the oldest ``span_days`` before the start."""
    within = uniform(keys_at(seed, stream, rows), 0)
    before = np.maximum(initial - rows - within, 0.0) / initial
    after = np.maximum(rows - initial + within, 0.0) / (DAILY_GROWTH * initial)
    days = np.where(rows < initial, -span_days * before**RECENCY, after)
    times: NDArray[np.int64] = START_US + np.floor(days * DAY_US).astype(np.int64)
    return times


def arrived(seed: int, stream: Stream, at_us: int, initial: int) -> int:
    """How many rows have arrived before a time, which is not before the start."""
    whole = initial + int(DAILY_GROWTH * initial * max(at_us - START_US, 0) / DAY_US)
    near = np.arange(max(whole - 1, initial), whole + 2)
    return int(near[0] + np.sum(arrival_us(seed, stream, near, initial, 1) < at_us))
