"""Parameters of the funnel: how many, how long, how strongly. Defaults are what an operator starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DAY_S = 86_400.0


@dataclass(frozen=True)
class Rules:
    """What post-ranking does, and by how much.

    Strengths are shares of the spread between the best and the worst score of a slate, so that they mean
    the same whatever the ranker's units are.
    """

    retrieval_share: float = 0.3
    """How much a candidate's place in retrieval counts beside its place by the ranker."""
    related_share: float = 0.5
    """The same beside a video: the ranker does not know what is being watched."""
    search_share: float = 0.3
    """How much a viewer's taste counts in a search beside the match of the words."""
    seen_strength: float = 1.0
    """How far a video that was watched this moment falls; 1 puts it below every other."""
    seen_half_life_s: float = 30 * DAY_S
    passed_strength: float = 0.05
    """How far a video falls for each impression that was not clicked."""
    passed_half_life_s: float = 1 * DAY_S
    fatigue_strength: float = 0.5
    """How far videos fall whose creator the viewer turned down lately."""
    topic_fatigue_strength: float = 0.1
    """The same for videos of that category."""
    fatigue_half_life_s: float = 14 * DAY_S
    fresh_strength: float = 0.01
    """How far a video uploaded this moment rises."""
    fresh_half_life_s: float = 2 * DAY_S
    creator_run: int = 2
    """Videos of one creator that may follow one another."""
    topic_spread: float = 0.1
    """How much likeness to what is placed already counts against a candidate, beside its score; 0 to 1."""
    small_share: float = 0.05
    """Least share of a slate that goes to creators who are seldom shown."""
    explore_every: int = 10
    """One slot in so many goes to a video of which little is known; 0 switches exploration off."""
    explore_width: float = 0.2
    """Width of the 95 % interval of a video's chance to be watched below which enough is known."""
    explore_prior: float = 10.0
    """Impressions that the ranker's own idea of that chance is worth."""
    off: frozenset[str] = frozenset()
    """Names of rules of :mod:`serving.postrank` that are switched off."""


@dataclass(frozen=True)
class AdRules:
    """Where ads stand."""

    surfaces: tuple[str, ...] = ("home",)
    """Surfaces that have any."""
    first: int = 3
    """Videos before the first."""
    every: int = 8
    """Videos from one to the next."""
    most: int = 3


@dataclass(frozen=True)
class Limits:
    """How many candidates each part may bring, and how long each may take."""

    candidates: int = 1_000
    """Candidates that are ranked."""
    per_retriever: int = 400
    retrieve_s: float = 0.100
    """Seconds that a retriever may take before the feed goes on without it."""
    rank_s: float = 0.200
    """Seconds that reading features and ranking may take before retrieval scores stand in."""


@dataclass(frozen=True)
class FunnelConfig:
    """Everything that an operator may change without another release."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    ads: AdRules = field(default_factory=AdRules)
    retrievers: Mapping[str, float] = field(default_factory=dict)
    """Weight of a retriever when ranks are fused, over those of :mod:`serving.funnel`; 0 leaves it out."""
