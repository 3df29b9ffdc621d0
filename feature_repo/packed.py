"""Packed feature values over the online-features port: written and read as matrices, without Feast.

This is the hot path. :mod:`feature_repo.packed_store` puts Feast's interface around the same values.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.specs import VIEWS
from models.layout import FLOAT16_MAX, FeatureLayout
from upnext.errors import CorruptData, LayoutMismatch
from upnext.ports import OnlineFeatures

BATCH = 20_000
"""Values written at once; bounds the memory of a transaction."""


def spec_defaults(view: str, layout: FeatureLayout) -> NDArray[np.float32]:
    """float32[d], the declared value of each feature for a missing entity; 0 where none is declared."""
    declared = {spec.name: spec.default for spec in VIEWS[view].features} if view in VIEWS else {}
    return np.array([declared.get(name, 0.0) for name in layout.names], np.float32)


class PackedFeatures:
    """Views of the online store, each in one layout.

    A view's values live under ``<view>@<hash>``: another layout is another version beside it, never misread.
    ``missing`` counts, per view, the entities asked for that had no value. Safe to share between threads
    as far as the port is.
    """

    def __init__(
        self,
        port: OnlineFeatures,
        layouts: Mapping[str, FeatureLayout],
        defaults: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.layouts = dict(layouts)
        self.missing: Counter[str] = Counter()
        self._port = port
        self._keys = {view: _key(view, layout) for view, layout in self.layouts.items()}
        chosen = defaults or {}
        self._defaults = {
            view: chosen[view] if view in chosen else spec_defaults(view, layout)
            for view, layout in self.layouts.items()
        }

    def read_matrix(self, view: str, ids: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, d], row i the features of entity i; declared defaults where the store has none.

        One round trip. LayoutMismatch when the store holds this view in another layout only.
        """
        return self.unpack(view, self.read(view, ids))

    def read_one(self, view: str, id_: str) -> tuple[NDArray[np.float32], int]:
        """Features of one entity, float32[d], and when they held, in µs; defaults and 0 for none."""
        values = self.read(view, [id_])
        return self.unpack(view, values)[0], int(self.layouts[view].timestamps(values)[0])

    def read(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        """Packed values in the order of ``ids``; None where there is none, which is counted."""
        values = self._port.get(self._keys[view], ids)
        if None in values:
            missing = values.count(None)
            self.missing[view] += missing
            if missing == len(values):
                self.require(view)
        return values

    def unpack(self, view: str, values: Sequence[bytes | None]) -> NDArray[np.float32]:
        """Packed values as float32[n, d]."""
        return self.layouts[view].unpack_many(values, self._defaults[view])

    def write_matrix(
        self, view: str, ids: Sequence[str], rows: NDArray[np.float32], timestamps: NDArray[np.int64] | int
    ) -> None:
        """Insert or replace float32[n, d]; ``timestamps`` in µs since the epoch, one for all or int64[n].

        CorruptData for a value that is not finite or that its dtype cannot hold; nothing is written then.
        """
        layout = self.layouts[view]
        _check(layout, ids, rows)
        stamps = np.broadcast_to(np.asarray(timestamps, np.int64), len(ids))
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            self._port.put(self._keys[view], ids[part], layout.pack(rows[part], stamps[part]))

    def count(self, view: str) -> int:
        """Entities that have a value in the layout in use."""
        return self._port.count(self._keys[view])

    def delete(self, view: str, ids: Sequence[str]) -> int:
        return self._port.delete(self._keys[view], ids)

    def versions(self, view: str) -> list[str]:
        """Names under which the store holds this view, in whatever layout."""
        return [name for name in self._port.views() if name.split("@")[0] == view]

    def drop(self, view: str) -> None:
        """Remove a view in every layout."""
        for name in self.versions(view):
            self._port.drop(name)

    def require(self, view: str) -> None:
        """Raise LayoutMismatch when the store holds a view, and not in the layout in use."""
        held = self.versions(view)
        if held and self._keys[view] not in held:
            raise LayoutMismatch(
                f"the online store holds {', '.join(held)}, in use is {self._keys[view]}: materialise again"
            )


def _key(view: str, layout: FeatureLayout) -> str:
    return f"{view}@{layout.hash[:12]}"


def _check(layout: FeatureLayout, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
    if rows.shape != (len(ids), layout.width):
        raise LayoutMismatch(f"rows have the shape {rows.shape}: {len(ids)} ids, {layout.width} features")
    limits = [FLOAT16_MAX if field.dtype == "float16" else np.inf for field in layout.fields]
    wrong = ~np.isfinite(rows) | (np.abs(rows) > np.array(limits, np.float32))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        field = layout.fields[column]
        raise CorruptData(
            f"{field.name} of {ids[row]!r} is {rows[row, column]}, which {field.dtype} does not hold "
            f"({int(wrong.sum())} such values): mend the feature, or declare it float32"
        )
