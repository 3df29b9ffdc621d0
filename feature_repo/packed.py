"""Packed feature values over the online-features port: written and read as matrices, without Feast.

This is the hot path. :mod:`feature_repo.packed_store` puts Feast's interface around the same values.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import compress
from time import time_ns
from typing import cast

import numpy as np
from numpy.typing import NDArray

from feature_repo.near_cache import NearCache
from feature_repo.specs import STREAMS, VIEWS
from models.layout import FLOAT16_MAX, FORMAT, FOUND, NEVER, FeatureLayout, Unpacked
from upnext.abilities import Follows, Joins
from upnext.errors import CorruptData, LayoutMismatch
from upnext.ports import OnlineFeatures

BATCH = 20_000
"""Values written at once; bounds the memory of a transaction."""
ASK_AGAIN_US = 5_000_000
"""A view that the store was seen to hold in the layout in use is taken to be there for so long."""


def spec_defaults(view: str, layout: FeatureLayout) -> NDArray[np.float32]:
    """float32[d], the declared value of each feature for a missing entity; 0 where none is declared."""
    spec = VIEWS.get(view) or STREAMS.get(view)
    declared = {feature.name: feature.default for feature in spec.features} if spec else {}
    return np.array([declared.get(name, 0.0) for name in layout.names], np.float32)


def wall_us() -> int:
    """Now, in µs since the epoch."""
    return time_ns() // 1_000


class PackedFeatures:
    """Views of the online store, each in one layout.

    A view's values live under a name with the layout's hash: another layout is another version beside it,
    never misread. What can't be used becomes the declared defaults and is counted in ``lacks`` by (view,
    reason): missing, expired, corrupt. Safe to share between threads as far as the port is.
    """

    def __init__(
        self,
        port: OnlineFeatures,
        layouts: Mapping[str, FeatureLayout],
        defaults: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        now: Callable[[], int] = wall_us,
        on_lack: Callable[[str, str, int], None] = lambda view, why, number: None,
        near_mb: Mapping[str, int] | None = None,
    ) -> None:
        """
        Parameters
        ----------
        now
            The time by which values expire, µs since the epoch.
        on_lack
            Hears view, reason and number of values that could not be used.
        near_mb
            View -> megabytes of what was read of it lately, kept in this process; only for a port that
            tells what has changed.
        """
        self.layouts = dict(layouts)
        self.lacks: Counter[tuple[str, str]] = Counter()
        self._held: dict[str, int] = {}  # view -> when it was seen to be held in the layout in use
        self._port = port
        self._joins = port if isinstance(port, Joins) else None
        self._now, self._on_lack = now, on_lack
        self._keys = {view: _key(view, layout) for view, layout in self.layouts.items()}
        chosen = defaults or {}
        self._defaults = {
            view: chosen[view] if view in chosen else spec_defaults(view, layout)
            for view, layout in self.layouts.items()
        }
        self.near: dict[str, NearCache] = {}
        if isinstance(port, Follows):
            for view, megabytes in (near_mb or {}).items():
                cache = NearCache.of(megabytes, self.layouts[view].size)
                cache.follow(port.follow(self._keys[view], cache))
                self.near[view] = cache

    def read_matrix(
        self, view: str, ids: Sequence[str], defaults: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """float32[n, d], row i the features of entity i.

        ``defaults``, float32[d] or float32[n, d], stand in for what can't be used, else the declared ones.
        One round trip, or none for what is near. LayoutMismatch when nothing could be used and the store
        holds this view in another layout only.
        """
        return self._read(view, ids, self._defaults[view] if defaults is None else defaults).rows

    def read_one(self, view: str, id_: str) -> tuple[NDArray[np.float32], int]:
        """Features of one entity, float32[d], and when they held, in µs; defaults and 0 for none."""
        unpacked = self._read(view, [id_], self._defaults[view])
        return unpacked.rows[0], int(unpacked.timestamps[0])

    def read(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        """Packed values in the order of ``ids``; None where there is none."""
        return self._port.get(self._keys[view], ids)

    def unpack(
        self, view: str, values: Sequence[bytes | None], defaults: NDArray[np.float32] | None = None
    ) -> Unpacked:
        """What packed values hold; what can't be used is counted."""
        stand_in = self._defaults[view] if defaults is None else defaults
        return self._counted(view, self.layouts[view].unpack_many(values, stand_in, self._now()))

    def write_matrix(
        self,
        view: str,
        ids: Sequence[str],
        rows: NDArray[np.float32],
        timestamps: NDArray[np.int64] | int,
        ttl: timedelta | None = None,
    ) -> None:
        """Insert or replace float32[n, d]; ``timestamps`` in µs since the epoch, one for all or int64[n].

        Values may be used for ``ttl`` after their timestamp, without one for ever. CorruptData for a value
        that is not finite or that its dtype cannot hold; nothing is written then.
        """
        layout = self.layouts[view]
        _check(layout, ids, rows)
        stamps = np.broadcast_to(np.asarray(timestamps, np.int64), len(ids))
        until = stamps + ttl // timedelta(microseconds=1) if ttl else np.broadcast_to(NEVER, len(ids))
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            self._port.put(self._keys[view], ids[part], layout.pack(rows[part], stamps[part], until[part]))

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
        self._held.pop(view, None)
        for name in self.versions(view):
            self._port.drop(name)

    def require(self, view: str) -> None:
        """Raise LayoutMismatch when the store holds a view, and not in the layout in use."""
        now, seen = self._now(), self._held.get(view)
        if seen is not None and now - seen < ASK_AGAIN_US:
            return
        held = self.versions(view)
        if self._keys[view] in held:
            self._held[view] = now
        elif held:
            raise LayoutMismatch(
                f"the online store holds {', '.join(held)}, in use is {self._keys[view]}: materialise again"
            )

    def close(self) -> None:
        """Let go of what is near; the port stays open."""
        for cache in self.near.values():
            cache.close()

    def _read(self, view: str, ids: Sequence[str], defaults: NDArray[np.float32]) -> Unpacked:
        cache, now = self.near.get(view), self._now()
        if cache is None:
            return self._counted(view, self._fetch(view, ids, defaults, now))
        near, layout = cache.look(ids), self.layouts[view]
        absent = near.absent
        if not len(absent):
            return self._counted(view, layout.unpack_array(near.values, defaults, now))
        asked = [ids[place] for place in absent.tolist()]
        with cast(Follows, self._port).asking(self._keys[view], asked) as answer:
            unpacked = layout.unpack_array(near.values, defaults, now)  # while the store is at it
            values = layout.gathered(answer())
        fetched = layout.unpack_array(values, defaults[absent] if defaults.ndim > 1 else defaults, now)
        unpacked.put(absent, fetched)
        usable = fetched.lack == FOUND
        cache.keep(list(compress(asked, usable)), values[usable], near.seen)
        return self._counted(view, unpacked)

    def _fetch(self, view: str, ids: Sequence[str], defaults: NDArray[np.float32], now: int) -> Unpacked:
        layout = self.layouts[view]
        if self._joins is not None:
            joined = self._joins.get_joined(self._keys[view], ids, layout.absent)
            unpacked = layout.unpack_joined(joined, len(ids), defaults, now)
            if unpacked is not None:
                return unpacked
        return layout.unpack_many(self.read(view, ids), defaults, now)

    def _counted(self, view: str, unpacked: Unpacked) -> Unpacked:
        for why, number in unpacked.lacks.items():
            self.lacks[view, why] += number
            self._on_lack(view, why, number)
        if unpacked.lacks and unpacked.lack.all():
            self.require(view)
        return unpacked


def _key(view: str, layout: FeatureLayout) -> str:
    return f"{view}@{layout.hash[:12]}.{FORMAT}"


def _check(layout: FeatureLayout, ids: Sequence[str], rows: NDArray[np.float32]) -> None:
    if rows.shape != (len(ids), layout.width):
        raise LayoutMismatch(f"rows have the shape {rows.shape}: {len(ids)} ids, {layout.width} features")
    limits = [FLOAT16_MAX if field.dtype == "float16" else np.inf for field in layout.fields]
    for start in range(0, len(ids), BATCH):
        part = rows[start : start + BATCH]
        wrong = ~np.isfinite(part) | (np.abs(part) > np.array(limits, np.float32))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            field = layout.fields[column]
            raise CorruptData(
                f"{field.name} of {ids[start + row]!r} is {part[row, column]}, which {field.dtype} does not "
                f"hold ({int(wrong.sum())} such values near it): mend the feature, or declare it float32"
            )
