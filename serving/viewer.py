"""One viewer at one moment, and how that is put together from the stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.context import QUERY_FRESH_S
from models.catalogue import Catalogue
from models.history import Histories, viewer_history
from upnext.ports import Profiles, WatchHistory
from upnext.times import microseconds

SEEN = 400
"""Videos of the past that post-ranking looks at; models take the newest of them."""


@dataclass(frozen=True)
class Viewer:
    """Who is asking, for what, and what is known of them.

    past: Histories with B = 1, the newest ``SEEN`` videos; features float32[du], nan where unknown;
    features_at: when those held, µs since the epoch, 0 where there were none; now: µs since the epoch, in the
    release's time; seed: row of the video being looked at, -1 for none; kids: in kids mode; passed: int32[p],
    rows shown lately and not clicked, one per impression, beside their age passed_age_s float32[p], seconds;
    lives_in: a region whose blocks hold where ``region`` names none.
    """

    user_id: str
    now: int
    past: Histories
    features: NDArray[np.float32]
    region: str | None = None
    lives_in: str | None = None
    language: str | None = None
    device: str | None = None
    topics: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    query: str = ""
    query_age_s: float = nan
    seed: int = -1
    surface: str = "home"
    allow_restricted: bool = False
    kids: bool = False
    passed: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    passed_age_s: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    known: bool = True
    features_at: int = 0

    @cached_property
    def seen(self) -> NDArray[np.int32]:
        """int32[s], rows of the past, newest first."""
        return self.past.rows[0, : self._length]

    @cached_property
    def strength(self) -> NDArray[np.float32]:
        """float32[s], beside ``seen``; negative where turned down."""
        return self.past.strength[0, : self._length]

    @cached_property
    def age_s(self) -> NDArray[np.float32]:
        """float32[s], seconds, beside ``seen``."""
        return self.past.age_s[0, : self._length]

    @property
    def cold(self) -> bool:
        """Nothing was liked or watched yet."""
        return not bool((self.strength > 0).any())

    def onto(self, old: Catalogue, new: Catalogue) -> "Viewer":
        """The same viewer in the rows of another release's catalogue, without the videos it lacks."""
        rows = new.rows(old.named(self.seen))
        kept = np.flatnonzero(rows >= 0)
        past = Histories.empty(1, self.past.rows.shape[1])
        past.rows[0, : len(kept)] = rows[kept]
        past.strength[0, : len(kept)] = self.strength[kept]
        past.age_s[0, : len(kept)] = self.age_s[kept]
        seed = int(new.rows([old.named(np.asarray([self.seed]))[0]])[0]) if self.seed >= 0 else -1
        passed = new.rows(old.named(self.passed))
        held = passed >= 0
        return replace(self, past=past, seed=seed, passed=passed[held], passed_age_s=self.passed_age_s[held])

    def asking(self, **changes: object) -> "Viewer":
        return replace(self, **changes)  # type: ignore[arg-type]

    @cached_property
    def _length(self) -> int:
        return int((self.past.rows[0] >= 0).sum())


@dataclass(frozen=True)
class Crowd:
    """B viewers at once, so that retrieval is a matrix product; a request is a crowd of one.

    als, tower: float32[B, d], the viewers' vectors in each space; zeros where nothing is known.
    """

    viewers: Sequence[Viewer]
    histories: Histories
    als: NDArray[np.float32]
    tower: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.viewers)

    def __getitem__(self, which: slice) -> "Crowd":
        return Crowd(self.viewers[which], self.histories[which], self.als[which], self.tower[which])


def pasts(viewers: Sequence[Viewer]) -> Histories:
    """The viewers' pasts as one, B = len(viewers)."""
    if len(viewers) == 1:
        return viewers[0].past
    columns = ([getattr(viewer.past, name) for viewer in viewers] for name in ("rows", "strength", "age_s"))
    return Histories(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class ViewerStores:
    """Where a viewer is put together from; each read may fail on its own."""

    history: WatchHistory
    profiles: Profiles
    features: Callable[[str], tuple[NDArray[np.float32], int]]
    """user_id -> float32[du], nan or defaults where unknown, and when they held (µs; 0: unknown)."""

    def reads(self, user_id: str, now: datetime) -> dict[str, Callable[[], Any]]:
        """The reads of one viewer by name, to be run side by side, for :func:`put_together`."""
        return {
            "history": lambda: self.history.recent(user_id, now, 3 * SEEN),
            "profile": lambda: self.profiles.get(user_id),
            "user_features": lambda: self.features(user_id),
        }


def put_together(
    user_id: str, found: Mapping[str, Any], catalogue: Catalogue, now: datetime, unknown: NDArray[np.float32]
) -> Viewer:
    """A viewer from what could be read; ``unknown`` float32[du] stands in for features that could not."""
    recent, profile = found.get("history"), found.get("profile") or {}
    some = recent is not None and recent.num_rows > 0
    features, features_at = found.get("user_features", (unknown, 0))
    query, query_age_s = latest_query(recent, now) if some else ("", nan)
    return Viewer(
        user_id=user_id,
        now=microseconds(now),
        past=viewer_history(recent, catalogue, now, SEEN) if some else Histories.empty(1, SEEN),
        features=features,
        features_at=features_at,
        region=profile.get("region"),
        language=profile.get("language"),
        device=profile.get("device"),
        topics=tuple(profile.get("topics") or ()),
        segments=tuple(profile.get("segments") or ()),
        kids=bool(profile.get("kids_mode")),
        query=query,
        query_age_s=query_age_s,
        known=some or bool(profile),
    )


def latest_query(recent: pa.Table, now: datetime) -> tuple[str, float]:
    """What was searched for last and how many seconds ago; ("", nan) unless within ``QUERY_FRESH_S``."""
    kinds = recent["event_type"].to_pylist()
    if "search" not in kinds:
        return "", nan
    searches = recent.filter(pc.equal(recent["event_type"], "search"))
    times = pc.cast(searches["timestamp"], pa.int64()).to_numpy()
    newest = int(times.argmax())
    age_s = (microseconds(now) - int(times[newest])) / 1e6
    if age_s > QUERY_FRESH_S:
        return "", nan
    return str(searches["query"][newest].as_py() or ""), max(age_s, 0.0)
