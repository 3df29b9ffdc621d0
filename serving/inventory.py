"""What post-ranking knows of a release's videos, in catalogue rows; made once when a release is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.columns import flags
from models.exposure import Exposure
from models.stacked import Vectors

SMALL_SHARE = 0.5
"""Creators with less exposure than this quantile of all creators are small ones."""


@dataclass(frozen=True)
class Inventory:
    """Columns over n videos.

    restricted bool[n], for adults only; for_kids bool[n]; directions float32[n, d], where videos of one topic
    lie close; small bool[n], of a creator that is seldom shown; exposure, how often each was shown so far.
    """

    catalogue: Catalogue
    restricted: NDArray[np.bool_]
    for_kids: NDArray[np.bool_]
    directions: Vectors
    small: NDArray[np.bool_]
    exposure: Exposure

    @classmethod
    def of(cls, catalogue: Catalogue, directions: Vectors, exposure: Exposure) -> "Inventory":
        return cls(
            catalogue=catalogue,
            restricted=flags(catalogue.table["age_restricted"]),
            for_kids=flags(catalogue.table["made_for_kids"]),
            directions=directions,
            small=_of_small_creators(catalogue, exposure),
            exposure=exposure,
        )

    def blocked(self, region: str | None) -> NDArray[np.int64] | None:
        """int64[k], rows that must not be shown in a region; None where there are none."""
        return self.blocks.get(region) if region else None

    @cached_property
    def blocks(self) -> dict[str, NDArray[np.int64]]:
        """Region -> rows that must not be shown there."""
        return _blocks(self.catalogue)

    def take_over(self, blocks: Mapping[str, NDArray[np.int64]], late: Catalogue) -> None:
        """Make ``blocks`` of those known of the first rows, and of the last ones, the ``late``."""
        first = len(self.catalogue) - len(late)
        new = {region: rows + first for region, rows in _blocks(late).items()}
        none = np.empty(0, np.int64)
        vars(self)["blocks"] = {
            region: np.concatenate([blocks.get(region, none), new.get(region, none)])
            for region in blocks.keys() | new.keys()
        }


def _blocks(catalogue: Catalogue) -> dict[str, NDArray[np.int64]]:
    lists = catalogue.table["blocked_regions"].combine_chunks()
    pairs = pa.table({"region": pc.list_flatten(lists), "row": pc.list_parent_indices(lists)})
    grouped = pairs.group_by("region").aggregate([("row", "list")]).to_pylist()
    return {each["region"]: np.asarray(each["row_list"], np.int64) for each in grouped}


def _of_small_creators(catalogue: Catalogue, exposure: Exposure) -> NDArray[np.bool_]:
    """bool[n]: active videos of creators whose videos together were shown less than most creators' were."""
    known = (catalogue.creator >= 0) & catalogue.active
    shown = np.bincount(catalogue.creator[known], exposure.impressions[known], len(catalogue.creators))
    if not shown.any():
        return np.zeros(len(catalogue), np.bool_)
    active = np.unique(catalogue.creator[known])
    small = np.zeros(len(catalogue.creators), np.bool_)
    small[active] = shown[active] < np.quantile(shown[active], SMALL_SHARE)
    return np.asarray(known & small[catalogue.creator])
