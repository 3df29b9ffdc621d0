"""Parameters of the funnel: how many, how long, how strongly. Defaults are what an operator starts from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Self, TypeVar

from models.blend import Blend
from models.utility import Weights
from upnext.errors import ConfigError, CorruptData

DAY_S = 86_400.0
LONGEST_S = 60.0
"""Seconds that a limit of time may be at most."""
SWITCHABLE = (
    "demote_seen",
    "demote_passed_over",
    "demote_fatigued",
    "boost_fresh",
    "spread_topics",
    "explore",
    "share_with_small",
    "spread_creators",
)
"""Rules of :mod:`serving.postrank` that can be switched off."""
DIVISORS = ("_half_life_s", "_width", "_prior")
"""Ends of names of numbers that must not be 0."""


@dataclass(frozen=True)
class Rules:
    """What post-ranking does, and by how much.

    Strengths are shares of the spread between the best and the worst score of a slate, so that they mean
    the same whatever the ranker's units are.
    """

    related_share: float = 0.5
    """How much a candidate's place in retrieval counts beside a video, and not its place by the ranker, which
    does not know what is being watched."""
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

    def __post_init__(self) -> None:
        _check("rules", self, {"creator_run": 1})
        if unknown := sorted(self.off - set(SWITCHABLE)):
            raise ConfigError(f"rules.off names {', '.join(unknown)}: there are {', '.join(SWITCHABLE)}")


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

    def __post_init__(self) -> None:
        _check("ads", self, {"every": 1})


@dataclass(frozen=True)
class Limits:
    """How many candidates each part may bring, and how long each may take."""

    candidates: int = 1_000
    """Candidates that are ranked."""
    per_retriever: int = 400
    request_s: float = 0.200
    """Seconds that all parts of a request may take together: each has its own limit or what is left."""
    viewer_s: float = 0.100
    """Seconds that each read of who the viewer is may take before the feed goes on without it."""
    retrieve_s: float = 0.100
    """Seconds that a retriever may take before the feed goes on without it."""
    features_s: float = 0.050
    """Seconds that reading features of videos online may take before the release's own stand in."""
    rank_s: float = 0.200
    """Seconds that ranking may take before retrieval scores stand in."""
    latency_s: float = 0.040
    """Seconds that a feed should take; while it takes more, fewer are answered at once and others refused."""
    queue_s: float = 0.050
    """Seconds that a feed may wait for its turn before it is refused."""

    def __post_init__(self) -> None:
        _check("limits", self, {"candidates": 1, "per_retriever": 1})
        for entry in fields(self):
            if entry.name.endswith("_s") and not 0 < (value := getattr(self, entry.name)) <= LONGEST_S:
                raise ConfigError(
                    f"limits.{entry.name} is {value}: give seconds, above 0 and at most {LONGEST_S:.0f}"
                )


Part = TypeVar("Part", Rules, Limits, AdRules)


@dataclass(frozen=True)
class FunnelConfig:
    """Everything that an operator may change without another release."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    ads: AdRules = field(default_factory=AdRules)
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the composite score by name (:class:`models.utility.Weights`), in place of the release's."""
    blend: Mapping[str, float] = field(default_factory=dict)
    """Weights of the signals of a feed's order (:class:`models.blend.Blend`), in place of the release's."""
    retrievers: Mapping[str, float] = field(default_factory=dict)
    """Weight of a retriever when ranks are fused, over those of :mod:`serving.funnel`; 0 leaves it out."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a JSON file of ``rules``, ``limits``, ``ads``, ``weights``, ``blend``; the rest stays.

        ConfigError for a name that there is not or a value that cannot be, CorruptData for what is not JSON.
        """
        try:
            given = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CorruptData(f"{path} can't be read as JSON: {error}") from error
        parts = {"rules": Rules, "limits": Limits, "ads": AdRules, "weights": Weights, "blend": Blend}
        if not isinstance(given, dict) or not all(isinstance(part, dict) for part in given.values()):
            raise ConfigError(f"{path} is no JSON object of objects: name {', '.join(parts)} in it")
        if unknown := sorted(set(given) - set(parts)):
            raise ConfigError(f"{path} names {', '.join(unknown)}: there are {', '.join(parts)}")
        rules, limits, ads, weights, blend = (given.get(part, {}) for part in parts)
        Weights.from_dict(weights)
        Blend.from_dict(blend)
        return cls(
            _changed("rules", Rules(), rules),
            _changed("limits", Limits(), limits),
            _changed("ads", AdRules(), ads),
            weights,
            blend,
        )


def _changed(section: str, defaults: Part, given: Mapping[str, Any]) -> Part:
    """Parameters with some of them changed; lists of names become the default's kind of set."""
    known = {entry.name: getattr(defaults, entry.name) for entry in fields(defaults)}
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"{section} has no {', '.join(unknown)}: there are {', '.join(known)}")
    changes = dict(given)
    for name, value in given.items():
        if isinstance(known[name], tuple | frozenset):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise ConfigError(f"{section}.{name} is {value!r}: give a list of names")
            changes[name] = type(known[name])(value)
    return replace(defaults, **changes)


def _check(section: str, part: Rules | Limits | AdRules, least: Mapping[str, int]) -> None:
    """ConfigError for a number that is not finite, not whole where its default is, or too small.

    least: 0 for those that are not named, and above 0 for those of ``DIVISORS``.
    """
    for entry in fields(part):
        value, whole = getattr(part, entry.name), isinstance(entry.default, int)
        if not isinstance(entry.default, int | float):
            continue
        known = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        above, lowest = entry.name.endswith(DIVISORS), least.get(entry.name, 0)
        if not known or not isfinite(value) or value < lowest or (above and value == 0):
            raise ConfigError(
                f"{section}.{entry.name} is {value!r}: give a {'whole' if whole else 'finite'} number "
                f"{'above 0' if above else f'of at least {lowest}'}"
            )
