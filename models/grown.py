"""A release's tables with the videos that came after it: rows behind its own, none of it copied or changed.

What is one number per video is joined; matrices are read in two parts (:mod:`models.stacked`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.columns import codes
from models.crosses import Crosses, inverse_norm
from models.stacked import Stacked

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GrownCatalogue(Catalogue):
    """The base's rows and behind them the late ones, which are in order of upload among themselves."""

    base: Catalogue
    late: Catalogue

    @classmethod
    def joining(cls, base: Catalogue, late: Catalogue) -> Self:
        return cls(pa.concat_tables([base.table, late.table]), base, late)

    @property
    def parts(self) -> tuple[slice, ...]:
        return (slice(0, len(self.base)), slice(len(self.base), len(self)))

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        return np.concatenate([self.base.ids, self.late.ids])

    @cached_property
    def creators(self) -> tuple[str, ...]:
        """The base's, then those that are new."""
        return _with_new(self.base.creators, self.late.creators)

    @cached_property
    def creator(self) -> NDArray[np.int32]:
        return np.concatenate([self.base.creator, codes(self.late.table["creator_id"], self.creators)])

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The base's, then those that are new."""
        return _with_new(self.base.categories, self.late.categories)

    @cached_property
    def category(self) -> NDArray[np.int32]:
        return np.concatenate([self.base.category, codes(self.late.table["category"], self.categories)])

    @cached_property
    def duration_s(self) -> NDArray[np.float32]:
        return np.concatenate([self.base.duration_s, self.late.duration_s])

    @cached_property
    def uploaded_at(self) -> NDArray[np.int64]:
        return np.concatenate([self.base.uploaded_at, self.late.uploaded_at])

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        return np.concatenate([self.base.active, self.late.active])

    def named(self, rows: NDArray[np.integer]) -> NDArray[np.object_]:
        late = rows >= len(self.base)
        found = self.base.named(np.where(late, 0, rows))
        found[late] = self.late.named(rows[late] - len(self.base))
        return found

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> NDArray[np.int32]:
        late = self.late.rows(ids)
        return np.where(late >= 0, late + len(self.base), self.base.rows(ids)).astype(np.int32)

    def documents(self, rows: NDArray[np.integer], columns: Sequence[str]) -> list[dict[str, Any]]:
        late = rows >= len(self.base)
        found = self.base.documents(np.where(late, 0, rows), columns)
        told = self.late.documents(rows[late] - len(self.base), columns)
        for place, document in zip(np.flatnonzero(late).tolist(), told, strict=True):
            found[place] = document
        return found


@dataclass(frozen=True, kw_only=True)
class GrownCrosses(Crosses):
    """Those of a grown catalogue; the release's own tables, ``base``, are not made again.

    A late video has no ALS vector, no neighbours, no looks, and the popularity of one that nobody watches.
    late_towers: float32[m, d], its vector in the towers' space.
    """

    base: Crosses
    late: Catalogue
    late_towers: Floats

    @classmethod
    def joining(cls, base: Crosses, catalogue: GrownCatalogue, towers: Floats) -> Self:
        m = len(catalogue.late)

        def unknown(items: Floats) -> Stacked[np.float32]:
            return Stacked(items, np.zeros((m, items.shape[1]), np.float32))

        looks = base.visual_items
        return cls(
            catalogue=catalogue,
            als_items=unknown(cast(Floats, base.als_items)),
            tower_items=Stacked(cast(Floats, base.tower_items), towers),
            popularity=base.popularity,
            neighbours=base.neighbours,
            visual_items=None if looks is None else unknown(cast(Floats, looks)),
            base=base,
            late=catalogue.late,
            late_towers=towers,
        )

    def __post_init__(self) -> None:
        if len(self.late_towers) != len(self.late):
            raise ValueError(f"{len(self.late_towers)} vectors for {len(self.late)} late videos")

    def log_counts(self, region: int | NDArray[np.int32], candidates: NDArray[np.int32]) -> Floats:
        late = candidates >= len(self.base.catalogue)
        found = self.base.log_counts(region, np.where(late, 0, candidates))
        return np.where(late, self.base.log_of_none[region], found)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """The base's, then those that are new."""
        told = self.late.table["language"].unique().drop_null().to_pylist()
        return _with_new(self.base.languages, told)

    @cached_property
    def language(self) -> NDArray[np.int32]:
        return np.concatenate([self.base.language, codes(self.late.table["language"], self.languages)])

    @cached_property
    def als_inverse(self) -> Floats:
        nothing = np.zeros((len(self.late), 1), np.float32)
        return np.concatenate([self.base.als_inverse, inverse_norm(nothing)])

    @cached_property
    def tower_inverse(self) -> Floats:
        return np.concatenate([self.base.tower_inverse, inverse_norm(self.late_towers)])

    @cached_property
    def log_duration(self) -> Floats:
        return np.concatenate([self.base.log_duration, np.log(self.late.duration_s)])


def _with_new(known: Sequence[str], late: Sequence[str]) -> tuple[str, ...]:
    """Codes stay as they are: names that are new come behind."""
    there = set(known)
    return (*known, *sorted(name for name in set(late) if name not in there))
