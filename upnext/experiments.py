"""What an experiment is: who is in it, which variants there are, and what each of them changes.

Experiments of one layer share its unit range and exclude each other; layers overlap independently, as in
Tang, Agarwal, O'Brien and Meyer, "Overlapping Experiment Infrastructure", KDD 2010.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from upnext.contracts import Id, Token
from upnext.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Metric = Literal["watch_s", "ctr", "retention", "not_interested_rate"]
STEPS = 10_000
"""Buckets that the hash has: no share is finer than one of them."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Part):
    """One way to serve. The first variant of an experiment is its control."""

    name: Name
    weight: Annotated[float, Field(gt=0, le=1)]
    """Share of the experiment's units."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameter of the funnel -> value, such as ``rules.explore_every: 0``; the others stay as they are."""


class Eligibility(_Part):
    """Which requests an experiment may touch; None: all of them."""

    surfaces: tuple[Token, ...] | None = None
    regions: tuple[Token, ...] | None = None
    devices: tuple[Token, ...] | None = None

    def admits(self, surface: str, region: str | None, device: str | None) -> bool:
        pairs = ((self.surfaces, surface), (self.regions, region), (self.devices, device))
        return all(allowed is None or value in allowed for allowed, value in pairs)


class Experiment(_Part):
    """One experiment. Its unit is the ``user_id``, else the ``session_id``."""

    name: Name
    layer: Name
    range: tuple[Share, Share] = (0.0, 1.0)
    """Part of the layer's units that belongs to this experiment, the end not included."""
    ramp: Share = 1.0
    """Share of that part that is in the experiment so far; raising it keeps everybody who is in."""
    salt: Token
    """Seed of the hash that picks a unit's variant; the name unless given."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=2, max_length=10)]
    eligibility: Eligibility = Eligibility()
    start: datetime
    """Now unless given."""
    stop: datetime | None = None
    overrides: dict[Id, Name] = Field(default_factory=dict)
    """Tester's id -> variant. Testers are not counted in the readout."""
    primary: Annotated[tuple[Metric, ...], Field(min_length=1)] = ("watch_s",)
    """Metrics that decide; more of a good one is wanted."""
    guardrails: tuple[Metric, ...] = ("not_interested_rate", "retention")
    """Metrics that must not become worse."""
    retention_day: Annotated[int, Field(ge=1, le=90)] = 1
    """Retention is the share active on so many days after the first exposure."""
    expected_users: Annotated[int, Field(ge=100)] = 10_000
    """Size at which the always-valid intervals are narrowest; fixed before the start."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {"salt": given.get("name"), "start": datetime.now(UTC)} | dict(given)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants are called {', '.join(names)}: give each a name of its own")
        total = sum(variant.weight for variant in self.variants)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"variants: weights sum to {total:g}: they are shares of the units, make it 1")
        if not self.range[1] - self.range[0] >= 1 / STEPS:
            raise ValueError(f"range is {list(self.range)}: give [from, to] with from < to, within 0 to 1")
        for unit, variant in self.overrides.items():
            if variant not in names:
                raise ValueError(f"overrides: {unit} -> {variant!r} is no variant: take {', '.join(names)}")
        for field in ("start", "stop"):
            time = getattr(self, field)
            if time is not None and time.tzinfo is None:
                raise ValueError(f"{field} is {time.isoformat()}, without a zone: write it with Z, in UTC")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop is {self.stop.isoformat()}, not after start {self.start.isoformat()}")
        both = set(self.primary) & set(self.guardrails)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} is primary and guardrail: take it from one of them")
        return self

    @property
    def control(self) -> Variant:
        return self.variants[0]

    @property
    def parameters(self) -> frozenset[str]:
        """Every parameter that some variant sets."""
        return frozenset(name for variant in self.variants for name in variant.parameters)

    def running(self, at: datetime) -> bool:
        return self.start <= at and (self.stop is None or at < self.stop)

    def stopped(self, at: datetime) -> "Experiment":
        """The same, ended at a time; one that has not begun never does."""
        return self.model_copy(update={"stop": at, "start": min(self.start, at - timedelta(seconds=1))})


def parse(given: Any, where: str = "experiment") -> Experiment:
    """An experiment from its document; ConfigError names field, value and remedy."""
    try:
        return Experiment.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            told = f"{field} is missing: it has no default"
        else:
            told = f"{field} is {first['input']!r}: {reason}" if field else reason
        raise ConfigError(f"{where}: {told}") from error


def read(path: Path) -> Experiment:
    """An experiment from a YAML or JSON file; ConfigError when it is not one."""
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} can't be read as YAML or JSON: {' '.join(str(error).split())}") from error
    return parse(given, str(path))


def check(new: Experiment, known: Iterable[Experiment], now: datetime) -> None:
    """Raise ConfigError where an experiment can't run beside those that are known.

    Of one that is known by its name, only ramp, stop, overrides and what the readout asks may change: what
    has been assigned and shown would mean something else otherwise.
    """
    for other in known:
        if other.name == new.name:
            _require_same(new, other, now)
        elif _meet(new, other):
            _require_apart(new, other)


def _require_same(new: Experiment, old: Experiment, now: datetime) -> None:
    if old.stop is not None and old.stop <= now:
        raise ConfigError(f"name is {new.name!r}, which ended on {old.stop:%Y-%m-%d}: give a new name")
    if new.ramp < old.ramp:
        raise ConfigError(f"ramp is {new.ramp:g}, it was {old.ramp:g}: stop {new.name} to take users out")
    for field in ("layer", "range", "salt", "variants", "eligibility"):
        if getattr(new, field) != getattr(old, field):
            raise ConfigError(f"{field} of {new.name} differs from what is running: start it as a new name")


def _meet(one: Experiment, other: Experiment) -> bool:
    """Whether there is a time at which both run."""
    ends = [each.stop for each in (one, other) if each.stop is not None]
    return not ends or max(one.start, other.start) < min(ends)


def _require_apart(new: Experiment, other: Experiment) -> None:
    if new.layer == other.layer:
        if new.range[0] < other.range[1] and other.range[0] < new.range[1]:
            raise ConfigError(
                f"range is {list(new.range)}, which {other.name} shares with {list(other.range)} in layer "
                f"{new.layer!r}: take a free part, or another layer"
            )
        return
    if new.salt == other.salt:
        raise ConfigError(
            f"salt is {new.salt!r}, as {other.name}'s of layer {other.layer!r}: their variants would go "
            "together; take another"
        )
    shared = sorted(new.parameters & other.parameters)
    if shared:
        raise ConfigError(
            f"parameters {', '.join(shared)} are set by {other.name} of layer {other.layer!r} too: "
            f"put both into one layer, where they exclude each other"
        )
