"""The pipeline as a table: which steps there are, and what each reads.

A step is a function from a :class:`Job` to an :class:`Outcome`. Its output is one folder per interval,
``runs/<until>/<step>``, with ``metrics.json`` beside what it made. The interval's name is its end:
everything that happened before ``until`` is known, nothing after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from upnext.errors import ConfigError, UpnextError
from upnext.settings import Settings

Config = TypeVar("Config")


@dataclass(frozen=True)
class Job:
    """What a step is given."""

    settings: Settings
    source: str
    """Where the data comes from, such as ``world:`` or ``kuairand:DIR``."""
    until: datetime | None
    """End of the interval, UTC; None lets ``ingest`` take all there is."""
    out: Path
    """Folder for the step's output; empty when the step starts."""

    def input(self, step: str) -> Path:
        """Output folder of an earlier step of the same interval."""
        return self.out.parent / step

    @property
    def end(self) -> datetime:
        """``until``, for the steps that cannot do without."""
        if self.until is None:
            raise ConfigError(
                "--until is missing: name the end of the interval, such as 2026-06-22T00:00:00Z"
            )
        return self.until

    def config(self, step: str, kind: type[Config]) -> Config:
        """A step's configuration: its defaults with what the settings override."""
        given = self.settings.training.get(step, {})
        try:
            return kind(**given)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"UPNEXT_TRAINING has {given!r} for {step}: {error}") from error


@dataclass(frozen=True)
class Outcome:
    """What a step says of itself."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    data_versions: Mapping[str, int] = field(default_factory=dict)
    """Versions of the Delta tables that were read or written."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, as JSON."""
    artifacts: tuple[str, ...] = ()
    """Folders below the step's own that MLflow keeps too, where the step is tracked."""
    refused: UpnextError | None = None
    """Raised once the run is tracked, and leaves the step undone: what is refused is worth comparing too."""


@dataclass(frozen=True)
class Step:
    """One entry of the table."""

    name: str
    function: str
    """``module:function``, imported when the step runs."""
    needs: tuple[str, ...]
    """Steps whose output it reads."""
    about: str
    tracked: bool = False
    """Whether each run that has figures is recorded in MLflow."""
    settings: tuple[str, ...] = ()
    """Settings that it reads, beside its own part of ``training`` and where things are."""

    def load(self) -> Callable[[Job], Outcome]:
        module, function = self.function.split(":")
        loaded: Callable[[Job], Outcome] = getattr(import_module(module), function)
        return loaded


STEPS = (
    Step("ingest", "components.steps:ingest", (), "Read what is new into the lake's Delta tables"),
    Step(
        "visual",
        "components.visual:visual",
        ("ingest",),
        "Read the thumbnails",
        tracked=True,
        settings=("visual_backbone",),
    ),
    Step("features", "components.steps:features", ("ingest", "visual"), "Compute feature snapshots"),
    Step(
        "materialise",
        "components.steps:materialise",
        ("features",),
        "Fill the online stores",
        settings=("history_days",),
    ),
    Step(
        "skew",
        "components.skew:skew",
        ("features",),
        "Compare logged features with recomputed ones",
        tracked=True,
        settings=("history_days", "skew_threshold"),
    ),
    Step(
        "examples",
        "components.steps:examples",
        ("features", "skew"),
        "Join labels with features of their time",
    ),
    Step(
        "validate",
        "components.quality.steps:validate",
        ("ingest", "examples"),
        "Hold the data against its suites, stop if it is unfit",
        tracked=True,
        settings=("event_retention_days",),
    ),
    Step("als", "components.steps:als", ("examples", "validate"), "Factorise who watched what", tracked=True),
    Step(
        "two_tower",
        "components.steps:two_tower",
        ("examples", "validate", "visual"),
        "Train both towers",
        tracked=True,
    ),
    Step(
        "ranker",
        "components.steps:ranker",
        ("examples", "validate", "als", "two_tower"),
        "Train the multi-task ranker",
        tracked=True,
    ),
    Step(
        "blend",
        "components.blending:blend",
        ("examples", "als", "two_tower", "ranker"),
        "Fit how ranker and retrievers make one order",
        tracked=True,
    ),
    Step(
        "drift",
        "components.quality.steps:drift",
        ("examples", "als", "two_tower", "ranker"),
        "Compare the hold-out with what was trained on",
        tracked=True,
    ),
    Step(
        "gate",
        "components.gate:gate",
        ("examples", "als", "two_tower", "ranker", "blend"),
        "Judge the candidate on the newest hold-out",
        tracked=True,
    ),
    Step("index", "components.steps:index", ("examples", "two_tower", "gate"), "Build the vector index"),
    Step("release", "components.release:release", ("gate", "index"), "Bind and register the bundle"),
)
"""All steps, in an order in which each finds its inputs."""

BY_NAME = {step.name: step for step in STEPS}


def find(name: str) -> Step:
    """The step of that name."""
    if name not in BY_NAME:
        raise ConfigError(f"step is {name!r}: it is one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def up_to(name: str) -> list[Step]:
    """The step of that name after all that it needs, in an order in which each finds its inputs."""
    wanted = {find(name).name}
    for step in reversed(STEPS):
        if step.name in wanted:
            wanted |= set(step.needs)
    return [step for step in STEPS if step.name in wanted]
