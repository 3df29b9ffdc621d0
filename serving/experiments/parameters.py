"""What a variant may change, and the funnel that follows from it.

``weights.NAME``     of the composite score (:class:`models.utility.Weights`), over the bundle's
``blend.NAME``       of what a feed's order is blended from (:class:`models.blend.Blend`), over the bundle's
``rules.NAME``       of post-ranking (:class:`serving.rules.Rules`)
``limits.NAME``      ``candidates`` and ``per_retriever``
``retrievers.NAME``  weight when ranks are fused; 0 leaves the retriever out
``release``          version or alias of the release that answers
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from math import inf
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from models.blend import Blend
from models.utility import Weights
from serving.funnel import RETRIEVERS, Funnel
from serving.rules import FunnelConfig, Limits, Rules
from upnext.errors import ConfigError
from upnext.experiments import Experiment

Values = Mapping[str, Any]
RELEASE = "release"
LIMITS = ("candidates", "per_retriever")


@cache
def known() -> Mapping[str, Any]:
    """Every parameter of the funnel by name, and its type."""
    of_rules, of_limits = get_type_hints(Rules), get_type_hints(Limits)
    return {
        **{f"weights.{each.name}": float for each in fields(Weights)},
        **{f"blend.{each.name}": float for each in fields(Blend)},
        **{f"rules.{name}": kind for name, kind in of_rules.items()},
        **{f"limits.{name}": of_limits[name] for name in LIMITS},
        **{f"retrievers.{name}": float for name in RETRIEVERS},
        RELEASE: str,
    }


def checked(experiment: Experiment) -> Experiment:
    """The experiment with the values in their types; ConfigError for what the funnel does not know."""
    variants = []
    for variant in experiment.variants:
        where = f"{experiment.name}: parameters of {variant.name}"
        values = {name: _checked(name, value, where) for name, value in variant.parameters.items()}
        try:
            Weights.from_dict(section(values, "weights"))
            Blend.from_dict(section(values, "blend"))
            replace(Rules(), **section(values, "rules"))
            replace(Limits(), **section(values, "limits"))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        variants.append(variant.model_copy(update={"parameters": values}))
    return experiment.model_copy(update={"variants": tuple(variants)})


def section(values: Values, name: str) -> dict[str, Any]:
    """The parameters of one section, without its prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def merged(variants: Iterable[Values]) -> dict[str, Any]:
    """The parameters of several variants at once; no two of different layers set the same."""
    return {name: value for values in variants for name, value in values.items()}


def applied(funnel: Funnel, values: Values) -> Funnel:
    """A funnel over the same bundle, with other parameters."""
    config: FunnelConfig = replace(
        funnel.config,
        rules=replace(funnel.config.rules, **section(values, "rules")),
        limits=replace(funnel.config.limits, **section(values, "limits")),
        blend={**funnel.config.blend, **section(values, "blend")},
        retrievers={**funnel.config.retrievers, **section(values, "retrievers")},
    )
    weights = section(values, "weights")
    ranker = funnel.ranker.weighing(weights) if weights else funnel.ranker
    other = replace(funnel, config=config, ranker=ranker)
    _ = other.blend  # which is refused here, or the first request would find out
    return other


def _checked(name: str, value: Any, where: str) -> Any:
    if name not in known():
        raise ConfigError(f"{where}: no parameter is called {name!r}: there are {', '.join(known())}")
    try:
        made = TypeAdapter(known()[name]).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: {name} is {value!r}: {error.errors()[0]['msg']}") from error
    if name.startswith("retrievers.") and not 0 <= made < inf:
        raise ConfigError(f"{where}: {name} is {value!r}: give a finite number of at least 0")
    return made
