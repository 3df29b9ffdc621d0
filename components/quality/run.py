"""Runs Great Expectations on frames in memory, and says what came of it.

Great Expectations keeps nothing itself, sends nothing and shows no progress: its context lives in memory, and
what is worth keeping goes to the step's folder by :mod:`components.quality.documents`.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from components.quality.suites import CRITICAL, KEYS

Checked = tuple[gx.ExpectationSuite, pd.DataFrame]
"""A suite and the frame that it is held against."""


@dataclass(frozen=True)
class Failure:
    """One expectation that was not met."""

    suite: str
    expectation: str
    column: str
    severity: str
    expected: str
    observed: str

    def __str__(self) -> str:
        return (
            f"suite {self.suite}: {self.expectation} of {self.column}: "
            f"expected {self.expected}, observed {self.observed}"
        )


def run(suites: Sequence[Checked]) -> dict[str, ExpectationSuiteValidationResult]:
    """Hold each frame against its suite; the results by suite, in their order."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
    )
    source = context.data_sources.add_pandas("upnext")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about how Great Expectations uses it
        return {suite.name: _run(context, source, suite, frame) for suite, frame in suites}


def failures(results: Mapping[str, ExpectationSuiteValidationResult]) -> list[Failure]:
    """Expectations that were not met or could not be judged, the critical ones first."""
    found = [
        _failure(name, each) for name, suite in results.items() for each in suite.results if not each.success
    ]
    return sorted(found, key=lambda failure: failure.severity != CRITICAL)


def _run(
    context: Any, source: Any, suite: gx.ExpectationSuite, frame: pd.DataFrame
) -> ExpectationSuiteValidationResult:
    batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("rows")
    definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=context.suites.add(suite))
    wanted: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": 10}
    if KEYS[suite.name] is not None:
        wanted["unexpected_index_column_names"] = KEYS[suite.name]
    found = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame}, result_format=wanted
    )
    for each in found.results:
        each.result = _plain(each.result)  # its own renderers stumble over the scalars of numpy and pandas
    return found


def _plain(value: Any) -> Any:
    """A result in Python's own types."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if value is pd.NA else value


def _failure(suite: str, result: ExpectationValidationResult) -> Failure:
    config = result.expectation_config
    given = {name: value for name, value in config.kwargs.items() if name not in _NO_EXPECTATION}
    pair = [str(given.pop(name)) for name in ("column_A", "column_B") if name in given]
    column = str(given.pop("column", " and ".join(pair) or "the table"))
    return Failure(
        suite=suite,
        expectation=config.type,
        column=column,
        severity=str(config.severity.value if hasattr(config.severity, "value") else config.severity),
        expected=_listed(given) or "every row",
        observed=_observed(result),
    )


_NO_EXPECTATION = {"batch_id", "ignore_row_if", "or_equal", "tail_weight_holdout"}
_NAMES = {"min_value": "at least", "max_value": "at most", "value_set": "one of", "type_list": "of type"}
_NAMES |= {"threshold": "divergence below", "partition_object": "from", "mostly": "known in a share of"}


def _observed(result: ExpectationValidationResult) -> str:
    """What there was instead: the rows at fault by their names, a value, or how many rows."""
    raised = result.exception_info.get("exception_message")
    if raised:
        return f"an error: {raised}"
    found = result.result
    named = found.get("partial_unexpected_index_list")
    if named and isinstance(named[0], dict):
        return "; ".join(_listed(row) for row in named)
    if "observed_value" in found:
        return str(found["observed_value"])
    share = found.get("unexpected_percent") or 0.0
    examples = ", ".join(repr(value) for value in (found.get("partial_unexpected_list") or [])[:3])
    return f"{share:.3g} % of {found.get('element_count', 0)} rows otherwise, such as {examples or 'null'}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{_NAMES.get(name, name)} {_short(value)}" for name, value in values.items() if value is not None
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and "operator" in value:
        return f"{value['column']['name']} {value['operator']} {value['parameter']}"
    if isinstance(value, dict) and "weights" in value:
        pairs = zip(value["values"], value["weights"], strict=True)
        return ", ".join(f"{name} {weight:.3f}" for name, weight in pairs)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
