"""Parameters of the funnel: how many, how long, how strongly. Defaults are what an operator starts from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Self, TypeVar

from models.utility import Weights
from upnext.errors import ConfigError, CorruptData

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


Part = TypeVar("Part", Rules, Limits, AdRules)


@dataclass(frozen=True)
class FunnelConfig:
    """Everything that an operator may change without another release."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    ads: AdRules = field(default_factory=AdRules)
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the composite score by name (:class:`models.utility.Weights`), in place of the release's."""
    retrievers: Mapping[str, float] = field(default_factory=dict)
    """Weight of a retriever when ranks are fused, over those of :mod:`serving.funnel`; 0 leaves it out."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a JSON file of ``rules``, ``limits``, ``ads`` and ``weights``; the rest keeps its default.

        ConfigError for a name that there is not or a value that cannot be, CorruptData for what is not JSON.
        """
        try:
            given = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CorruptData(f"{path} can't be read as JSON: {error}") from error
        parts = {"rules": Rules, "limits": Limits, "ads": AdRules, "weights": Weights}
        if not isinstance(given, dict) or not all(isinstance(part, dict) for part in given.values()):
            raise ConfigError(f"{path} is no JSON object of objects: name {', '.join(parts)} in it")
        if unknown := sorted(set(given) - set(parts)):
            raise ConfigError(f"{path} names {', '.join(unknown)}: there are {', '.join(parts)}")
        rules, limits, ads, weights = (given.get(part, {}) for part in parts)
        Weights.from_dict(weights)
        return cls(_changed(Rules(), rules), _changed(Limits(), limits), _changed(AdRules(), ads), weights)


def _changed(defaults: Part, given: Mapping[str, Any]) -> Part:
    """Parameters with some of them changed, each to a value of its default's kind."""
    known = {entry.name: getattr(defaults, entry.name) for entry in fields(defaults)}
    kind = type(defaults).__name__.lower()
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"{kind} has no {', '.join(unknown)}: there are {', '.join(known)}")
    changes = {name: _like(known[name], value, f"{name} of {kind}") for name, value in given.items()}
    return replace(defaults, **changes)


def _like(default: Any, value: Any, what: str) -> Any:
    """A number at least 0, whole where the default is, or a list of names as the default's kind of set."""
    if isinstance(default, tuple | frozenset):
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"{what} is {value!r}: give a list of names")
        return type(default)(value)
    whole = isinstance(default, int)
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else int | float)
        or not 0 <= value < inf
    ):
        raise ConfigError(
            f"{what} is {value!r}: give {'a whole number' if whole else 'a number'}, at least 0"
        )
    return value
