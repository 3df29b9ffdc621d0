"""Parameters of the funnel: how many, how long, how strongly. Defaults are what an operator starts from."""

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
    fatigue_strength: float = 0.5
    """How far videos fall whose creator the viewer turned down lately."""
    fatigue_half_life_s: float = 14 * DAY_S
    fresh_strength: float = 0.01
    """How far a video uploaded this moment rises."""
    fresh_half_life_s: float = 2 * DAY_S
    creator_run: int = 2
    """Videos of one creator that may follow one another."""
    explore_every: int = 10
    """One slot in so many goes to a new video; 0 switches exploration off."""
    explore_age_s: float = 7 * DAY_S
    """Up to this age a video is new."""
    explore_temperature: float = 0.03
    """Temperature of the draw among new videos, as a share of the spread of scores."""


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
