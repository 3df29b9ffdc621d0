"""What the user tower reads of a viewer beside their history, as integers that mean the same everywhere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.history import SECOND
from models.video_inputs import bucket

HOURS = 25
"""Unknown, then the 24 hours of the UTC day."""
DEVICE_BUCKETS = 1 << 6
REGION_BUCKETS = 1 << 9
CONTEXT = 3
"""Columns of a context: hour, device, region."""


def places(devices: Sequence[str | None], regions: Sequence[str | None]) -> NDArray[np.int64]:
    """int64[n, 2], hashed device and region of n viewers; 0 unknown. Any name will do, a new one too."""
    columns = ((devices, DEVICE_BUCKETS), (regions, REGION_BUCKETS))
    found = [_hashed(names, buckets) for names, buckets in columns]
    return np.stack(found, axis=1)


def context(now: NDArray[np.int64] | int, of_viewers: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n, CONTEXT] from times (microseconds since 1970) and what :func:`places` gave."""
    hour = 1 + now // (3600 * SECOND) % 24
    return np.column_stack([np.broadcast_to(hour, len(of_viewers)), of_viewers])


def _hashed(names: Sequence[str | None], buckets: int) -> NDArray[np.int64]:
    code = {name: bucket(name.lower(), buckets) if name else 0 for name in set(names)}
    return np.fromiter((code[name] for name in names), np.int64, len(names))
