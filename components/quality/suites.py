"""The suites of expectations, as code: made of the contracts, so that what is declared is checked.

What is ``critical`` stops the pipeline; a ``warning`` is reported. A suite depends on the data only by what
it holds it against, the window before.
"""

from datetime import UTC, datetime

import great_expectations.expectations as gxe
import pandas as pd
import pyarrow as pa
from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column as Cell

from components.quality.limits import Column, contract_columns
from components.quality.settings import ValidateConfig
from models.dataset import HEADS, Split
from upnext.contracts import EVENTS, Event

CRITICAL, WARNING = "critical", "warning"
CATEGORIES = ("event_type", "surface", "device")
"""Columns of events whose shares are held against the window before."""
LEAST = 500
"""Events of the window before, below which nothing is held against it."""
KEYS = {"events": None, "examples": None, "features": ["block", "feature"], "tables": ["table"]}
"""Suites in their order, and the columns that name a row of their frame."""
_TYPES = {
    pa.string(): ["str"],
    pa.int32(): ["Int32Dtype"],
    pa.int64(): ["Int64Dtype"],
    pa.float32(): ["Float32Dtype"],
    pa.timestamp("us", tz="UTC"): ["datetime64[us]"],
}


def events_suite(before: pd.DataFrame, since: datetime, until: datetime) -> ExpectationSuite:
    """The contract of events, and how often a column is null or a category seen beside the window before."""
    expectations: list[Expectation] = [
        gxe.ExpectTableColumnsToMatchSet(column_set=EVENTS.names, exact_match=False, severity=CRITICAL),
        gxe.ExpectColumnValuesToBeBetween(
            column="timestamp",
            min_value=since.astimezone(UTC).replace(tzinfo=None),
            max_value=until.astimezone(UTC).replace(tzinfo=None),
            strict_max=True,
            severity=CRITICAL,
        ),
        gxe.ExpectColumnValuesToNotBeNull(
            column="video_id", row_condition=Cell("event_type") != "search", severity=CRITICAL
        ),
    ]
    declared, enough = contract_columns(Event), len(before) >= LEAST
    for field in EVENTS:
        expectations += _contract(field, declared[field.name])
        if field.nullable and enough:
            expectations.append(_as_often_known(field.name, before))
    for name in CATEGORIES if enough else ():
        shares = before[name].value_counts(normalize=True)
        if len(shares):
            expectations.append(_as_before(name, shares))
    return ExpectationSuite(name="events", expectations=expectations)


def examples_suite(split: Split, users: int, videos: int) -> ExpectationSuite:
    """Keys that exist, times inside the split, labels that are labels, and something to learn from."""
    ranges = {"user": (0, users - 1), "video": (0, videos - 1), "position": (-1, 10_000)}
    ranges |= {"ts": (split.history_end, split.until - 1), "watch_s": (0, 31 * 86_400)}
    flags = [head for head in HEADS if head != "watch_s"]
    expectations: list[Expectation] = [
        gxe.ExpectColumnValuesToBeInSet(
            column="part", value_set=["train", "valid", "holdout"], severity=CRITICAL
        ),
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="part", value_set=["train", "valid", "holdout"], severity=WARNING
        ),
        gxe.ExpectColumnValuesToNotBeNull(column="click", severity=CRITICAL),
        gxe.ExpectColumnMeanToBeBetween(column="click", min_value=0, strict_min=True, severity=CRITICAL),
        *[_between(name, low, high) for name, (low, high) in ranges.items()],
        *[
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[0, 1], severity=CRITICAL)
            for name in flags
        ],
    ]
    return ExpectationSuite(name="examples", expectations=expectations)


def features_suite(config: ValidateConfig) -> ExpectationSuite:
    """Each feature, one row each: known, finite, inside its declared range, and much as a week before."""
    expectations = [
        _between("missing", 0, config.most_missing),
        _between("infinite", 0, 0),
        _not_less("lowest", "low"),
        _not_less("high", "highest"),
        _between("shift", None, config.most_shift, WARNING),
    ]
    return ExpectationSuite(name="features", expectations=expectations)


def tables_suite(config: ValidateConfig) -> ExpectationSuite:
    """Each table, one row each: there, its keys unique, fresh, of the usual size, with few rows refused."""
    low, high = config.usual_volume
    expectations = [
        _between("rows", 1, None),
        _between("repeated_keys", 0, 0),
        _between("age_h", 0, config.stale_h, WARNING),
        _between("volume", low, high, WARNING),
        _between("refused_share", 0, config.most_refused),
    ]
    return ExpectationSuite(name="tables", expectations=expectations)


def _contract(field: pa.Field, declared: Column) -> list[Expectation]:
    """What the contract says of one column."""
    found: list[Expectation] = [
        gxe.ExpectColumnValuesToBeInTypeList(
            column=field.name, type_list=_TYPES[field.type], severity=CRITICAL
        )
    ]
    if not field.nullable:
        found.append(gxe.ExpectColumnValuesToNotBeNull(column=field.name, severity=CRITICAL))
    if declared.values is not None:
        found.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=field.name, value_set=list(declared.values), severity=CRITICAL
            )
        )
    if declared.low is not None or declared.high is not None:
        found.append(_between(field.name, declared.low, declared.high))
    if declared.longest is not None:
        found.append(
            gxe.ExpectColumnValueLengthsToBeBetween(
                column=field.name,
                min_value=declared.shortest,
                max_value=declared.longest,
                severity=CRITICAL,
            )
        )
    return found


def _between(
    name: str, low: float | None, high: float | None, severity: str = CRITICAL
) -> gxe.ExpectColumnValuesToBeBetween:
    return gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high, severity=severity)


def _not_less(larger: str, smaller: str) -> gxe.ExpectColumnPairValuesAToBeGreaterThanB:
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=larger,
        column_B=smaller,
        or_equal=True,
        ignore_row_if="either_value_is_missing",
        severity=CRITICAL,
    )


def _as_often_known(name: str, before: pd.DataFrame) -> gxe.ExpectColumnValuesToNotBeNull:
    """A column that was filled in goes on being filled in, but for a fifth of the rows."""
    known = round(float(before[name].notna().mean()), 3)
    return gxe.ExpectColumnValuesToNotBeNull(column=name, mostly=max(known - 0.2, 0.0), severity=WARNING)


def _as_before(name: str, shares: pd.Series) -> gxe.ExpectColumnKLDivergenceToBeLessThan:
    partition = {"values": shares.index.tolist(), "weights": shares.tolist()}
    return gxe.ExpectColumnKLDivergenceToBeLessThan(
        column=name,
        partition_object=partition,
        threshold=0.2,
        tail_weight_holdout=0.01,
        severity=WARNING,
    )
