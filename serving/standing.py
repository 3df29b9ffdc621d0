"""Which videos may be shown right now: what the release says, less what was barred since.

A video that is blocked or deleted must go at once, not with the next release. The catalogue store knows which
are; a write through this process counts as soon as it is made, one through another within a poll.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Self
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from upnext.ports import Catalogue as CatalogueStore

FREE = (True, False)
"""A video for everybody: active, not restricted."""
State = tuple[bool, bool]


@dataclass(frozen=True)
class Standing:
    """The videos of one release. active, restricted: bool[n], changed in place while requests read them."""

    catalogue: Catalogue
    active: NDArray[np.bool_]
    restricted: NDArray[np.bool_]
    _restricted_then: NDArray[np.bool_]

    @classmethod
    def of(cls, catalogue: Catalogue, restricted: NDArray[np.bool_]) -> Self:
        """As the release was made."""
        return cls(catalogue, catalogue.active.copy(), restricted.copy(), restricted)

    def mark(self, states: Mapping[str, State]) -> None:
        """Set (active, restricted) of some videos, by id; what the release itself bars stays barred."""
        rows = self.catalogue.rows(list(states))
        known = rows >= 0
        rows, told = rows[known], np.asarray(list(states.values()), bool).reshape(-1, 2)[known]
        self.active[rows] = self.catalogue.active[rows] & told[:, 0]
        self.restricted[rows] = self._restricted_then[rows] | told[:, 1]


@dataclass
class Barred:
    """The videos that are not for everybody, as the catalogue store has them, upon the releases in use."""

    store: CatalogueStore
    held: dict[str, State] = field(default_factory=dict)
    _standings: list[ref[Standing]] = field(default_factory=list, repr=False)
    _noted: dict[str, State] = field(default_factory=dict, repr=False)
    """Written by this process since the last look at the store began."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def attach(self, standing: Standing) -> None:
        """Keep a release's standing up to date from now on, for as long as somebody holds it."""
        with self._lock:
            standing.mark(self.held)
            self._standings = [each for each in self._standings if each() is not None] + [ref(standing)]

    def note(self, states: Mapping[str, State]) -> None:
        """Count what was just written to the store."""
        with self._lock:
            self._noted |= states
            _put(self.held, states)
            self._mark(states)

    def refresh(self) -> None:
        """Take over what the store holds; what this process writes meanwhile is newer than what it reads.

        For one thread at a time.
        """
        with self._lock:
            self._noted = {}
        found = dict(_states(self.store))
        with self._lock:
            _put(found, self._noted)
            freed = dict.fromkeys(self.held.keys() - found.keys(), FREE)
            changed = {key: state for key, state in found.items() if self.held.get(key) != state}
            self.held = found
            if freed or changed:
                self._mark(freed | changed)

    def _mark(self, states: Mapping[str, State]) -> None:
        for each in self._standings:
            standing = each()
            if standing is not None:
                standing.mark(states)


def state_of(status: str | None, restricted: bool | None) -> State:
    """(active, restricted) of a row of the catalogue."""
    return (status or "active") == "active", bool(restricted)


def _put(held: dict[str, State], states: Mapping[str, State]) -> None:
    for video_id, state in states.items():
        if state == FREE:
            held.pop(video_id, None)
        else:
            held[video_id] = state


def _states(store: CatalogueStore) -> Iterable[tuple[str, State]]:
    table = store.barred()
    columns = (table[name].to_pylist() for name in ("video_id", "status", "age_restricted"))
    for video_id, status, restricted in zip(*columns, strict=True):
        yield video_id, state_of(status, restricted)
