"""What post-ranking works on: a slate of candidates, and the situation that its rules may look at."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from serving.inventory import Inventory
from serving.rules import Rules

MICROSECONDS = 1e6
UNKNOWN_CHANCE = 0.3
"""P(watched for more than half) where no ranker gave one."""


@dataclass(frozen=True)
class Slate:
    """m candidates on their way to the viewer.

    rows int32[m] catalogue rows; score float32[m]; place int32[m], where each lies in the pool;
    chance float32[m], P(watched for more than half) by the ranker; explored bool[m]; propensity float32[m],
    chance of the draw that gave it its place (1 without a draw).
    """

    rows: NDArray[np.int32]
    score: NDArray[np.float32]
    place: NDArray[np.int32]
    chance: NDArray[np.float32]
    explored: NDArray[np.bool_]
    propensity: NDArray[np.float32]

    @classmethod
    def of(
        cls, rows: NDArray[np.int32], score: NDArray[np.float32], chance: NDArray[np.float32] | None = None
    ) -> "Slate":
        m = len(rows)
        given = np.full(m, UNKNOWN_CHANCE, np.float32) if chance is None else chance
        return cls(
            rows, score, np.arange(m, dtype=np.int32), given, np.zeros(m, bool), np.ones(m, np.float32)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Slate":
        return Slate(
            self.rows[index],
            self.score[index],
            self.place[index],
            self.chance[index],
            self.explored[index],
            self.propensity[index],
        )

    def lowered(self, share: NDArray[np.floating]) -> "Slate":
        """The same with scores lowered by float[m] shares of the spread; negative shares raise."""
        return replace(self, score=(self.score - self.spread * share).astype(np.float32))

    @property
    def spread(self) -> float:
        """Distance from the worst score to the best; 1 where all are alike, so that rules still act."""
        width = float(np.ptp(self.score)) if len(self) else 0.0
        return width if width > 0 else 1.0


def _no_rows() -> NDArray[np.int32]:
    return np.empty(0, np.int32)


def _no_ages() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


@dataclass(frozen=True)
class Situation:
    """What the rules may look at.

    now: µs since the epoch. seen int32[s], rows the viewer acted upon, with seen_age_s float32[s] (seconds)
    and seen_strength float32[s], negative where turned down. passed int32[p], rows of impressions that were
    not clicked, one per impression, with passed_age_s float32[p]. exclude int32[e], rows that must not come.
    """

    inventory: Inventory
    rules: Rules
    now: int
    count: int
    seen: NDArray[np.int32]
    seen_age_s: NDArray[np.float32]
    seen_strength: NDArray[np.float32]
    passed: NDArray[np.int32] = field(default_factory=_no_rows)
    passed_age_s: NDArray[np.float32] = field(default_factory=_no_ages)
    exclude: NDArray[np.int32] = field(default_factory=_no_rows)
    region: str | None = None
    allow_restricted: bool = False
    kids: bool = False
    seed: int = 0
    active: NDArray[np.bool_] | None = None
    """bool[n], which videos may be shown now; None: those that the release says."""


Rule = Callable[[Slate, Situation], Slate]


def age_s(rows: NDArray[np.int32], situation: Situation) -> NDArray[np.float32]:
    """Seconds since upload, float32[n]; infinite where unknown."""
    uploaded = situation.inventory.catalogue.uploaded_at[rows]
    age = np.maximum(situation.now - uploaded, 0) / MICROSECONDS
    return np.where(uploaded > 0, age, np.inf).astype(np.float32)
