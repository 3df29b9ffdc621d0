"""The lake's table ``visual_embeddings``: what it is made of, and how it is read."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.vectors import VISUAL_TABLE, looks
from upnext.ports import Lake

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("visual", pa.list_(pa.float32()), nullable=False),  # of length 32
        pa.field("network", pa.string(), nullable=False),  # digest of the network that made it
    ]
)
CHUNK = 1024
"""Videos whose thumbnails are held at once outside training."""


def visual_of(lake: Lake, video_ids: Sequence[str] | NDArray[np.object_]) -> NDArray[np.float32]:
    """float32[n, 32], vectors of videos as the lake has them; zeros where there is none."""
    return looks(pa.array(video_ids, pa.string()), visual_table(lake))


def visual_table(lake: Lake) -> pa.Table | None:
    """``video_id`` and ``visual`` of all videos that have a vector; None before any had one."""
    return lake.read(VISUAL_TABLE, ["video_id", "visual"]) if lake.version(VISUAL_TABLE) >= 0 else None
