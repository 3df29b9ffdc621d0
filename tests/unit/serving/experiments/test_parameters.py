"""Parameters of variants are known to the funnel, and change it as they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from serving.experiments import parameters
from serving.funnel import RETRIEVERS
from upnext.errors import ConfigError
from upnext.experiments import parse


def made(**values):
    variants = [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5, "parameters": values}]
    return parse({"name": "one", "layer": "l", "variants": variants})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rules.freshness", 1, r"no parameter is called 'rules.freshness': there are weights\.click, "),
        ("limits.rank_s", 1, "no parameter is called 'limits.rank_s'"),
        ("rules.explore_every", "often", "rules.explore_every is 'often': Input should be a valid integer"),
        ("rules.fresh_strength", -0.1, "rules.fresh_strength is -0.1: give a finite number of at least 0"),
        ("rules.fresh_strength", float("inf"), "rules.fresh_strength is inf: "),
        ("rules.fresh_half_life_s", 0, "rules.fresh_half_life_s is 0.0: give a finite number above 0"),
        ("rules.off", ["explore", "dance"], "rules.off names dance: there are demote_seen, "),
        ("limits.candidates", 0, "limits.candidates is 0: give a whole number of at least 1"),
        ("retrievers.new", float("nan"), "retrievers.new is nan: give a finite number of at least 0"),
        ("blend.als", float("nan"), "weight als of the blend is nan: give a finite number"),
        ("weights.not_interested", 1.0, "weight not_interested is 1.0: give at most 0"),
        ("release", 7, "release is 7: Input should be a valid string"),
    ],
)
def test_a_wrong_parameter_is_told(name, value, said):
    with pytest.raises(ConfigError, match=f"one: parameters of b: {said}"):
        parameters.checked(made(**{name: value}))


def test_the_names_of_retrievers_are_those_of_the_funnel(server):
    assert tuple(server.engine.current.funnel.retrievers) == RETRIEVERS


def test_a_funnel_takes_the_parameters_and_keeps_the_rest(server):
    base = server.engine.current.funnel
    values = {
        "weights.like": 9.0,
        "blend.als": 0.5,
        "rules.fresh_strength": 0.5,
        "limits.candidates": 40,
        "retrievers.trending": 0.0,
    }
    other = parameters.applied(base, values)
    assert other.config.rules == replace(base.config.rules, fresh_strength=0.5)
    assert other.config.limits == replace(base.config.limits, candidates=40)
    assert other.ranker.weights == replace(base.bundle.weights, like=9.0)
    assert other.blend == replace(base.bundle.blend, als=0.5) and base.blend == base.bundle.blend
    assert other.asked(RETRIEVERS) == [name for name in RETRIEVERS if name != "trending"]
    assert base.ranker.weights == base.bundle.weights and base.asked(RETRIEVERS) == list(RETRIEVERS)
    heads = {name: np.full(3, 0.5, np.float32) for name in base.bundle.scorer.heads}
    ranked = base.ranker.rescored(type(server.engine.home("ann", 5).ranked)(np.zeros(3, np.float32), heads))
    assert ranked.utility.tolist() == base.bundle.weights.score(heads).tolist()


def test_the_documented_definition_is_a_good_one():
    text = (Path(parameters.__file__).parents[2] / "docs" / "experiments.md").read_text()
    definition = parameters.checked(parse(yaml.safe_load(text.split("```yaml")[1].split("```")[0])))
    assert definition.parameters == {"rules.fresh_strength", "retrievers.new"}
    assert definition.overrides == {"u00000017": "fresher"}
