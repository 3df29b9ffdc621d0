"""How often videos were shown and how often that went well: what exploration knows and does not know."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.columns import flags, floats, micros
from models.files import arrays_of, reading

LONG = 0.5
"""Watch fraction above which showing a video went well."""


@dataclass(frozen=True)
class Exposure:
    """impressions, successes: int32[n]; a success was watched for more than half."""

    impressions: NDArray[np.int32]
    successes: NDArray[np.int32]

    @classmethod
    def none(cls, videos: int) -> "Exposure":
        """Nothing was shown yet."""
        return cls(np.zeros(videos, np.int32), np.zeros(videos, np.int32))

    @classmethod
    def of(cls, outcomes: pa.Table, catalogue: Catalogue, as_of: int) -> "Exposure":
        """From the lake's ``outcomes`` of what was shown before ``as_of`` (µs since the epoch)."""
        row = catalogue.rows(outcomes["video_id"])
        counted = flags(outcomes["shown"]) & (row >= 0) & (micros(outcomes["engaged_at"]) < as_of)
        row, well = row[counted], floats(outcomes["watch_fraction"])[counted] > LONG
        counts = (np.bincount(row, weights, len(catalogue)) for weights in (None, well))
        return cls(*(count.astype(np.int32) for count in counts))

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        np.savez(path, impressions=self.impressions, successes=self.successes)

    @classmethod
    def load(cls, path: Path) -> "Exposure":
        """Read what :meth:`save` wrote."""
        with reading("exposure", path), arrays_of(path) as arrays:
            return cls(arrays["impressions"], arrays["successes"])
