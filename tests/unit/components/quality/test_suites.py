"""The suites: a good table meets all of each, and every expectation is failed by a table of its own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest

from components.quality import suites
from components.quality.documents import write
from components.quality.frames import profile
from components.quality.limits import HALF, UNITS, Range, range_of
from components.quality.run import Failure, failures, run
from components.quality.settings import ValidateConfig
from feature_repo.specs import VIEWS, FeatureSpec
from models.dataset import HEADS, Split
from upnext.contracts import EVENTS, EventType

T = datetime(2026, 6, 8, tzinfo=UTC)
WEEK = timedelta(days=7)
ROWS = 560
CONFIG = ValidateConfig()
SPLIT = Split(*(int((T - timedelta(days=days)).timestamp() * 1e6) for days in (4, 2, 1, 0)))
Change = Callable[[pd.DataFrame], None]


def events() -> pd.DataFrame:
    """Events of every kind in the week before T, as ``events_frame`` has them."""
    kinds = [kind.value for kind in EventType]
    frame = pd.DataFrame({name: pd.Series([None] * ROWS, dtype=object) for name in EVENTS.names})
    place = np.arange(ROWS)
    frame["event_id"], frame["user_id"] = [f"e{row}" for row in place], [f"u{row % 30}" for row in place]
    frame["event_type"] = [kinds[row % len(kinds)] for row in place]
    search = frame["event_type"] == "search"
    frame["video_id"] = np.where(search, None, "v1")
    frame["query"] = np.where(search, "cats", None)
    frame["timestamp"] = pd.Series(
        [(T - timedelta(minutes=int(row) + 1)).replace(tzinfo=None) for row in place]
    ).astype("datetime64[us]")
    for name in ("session_id", "request_id", "surface", "device", "region"):
        frame[name] = name
    frame["watch_duration_ms"] = pd.array([5_000] * ROWS, "Int64")
    frame["position"] = pd.array(place % 10, "Int32")
    frame["propensity"] = pd.array([0.25] * ROWS, "Float32")
    return frame


def examples() -> pd.DataFrame:
    place = np.arange(90)
    frame = pd.DataFrame({"part": np.array(["train", "valid", "holdout"])[place % 3]})
    frame["user"], frame["video"], frame["position"] = place % 5, place % 7, place % 11 - 1
    frame["ts"] = SPLIT.history_end + place
    frame["shown"] = place % 2 == 0
    for head in HEADS:
        frame[head] = np.where(place % 4 == 0, np.nan, place % 2).astype(np.float32)
    frame["click"] = (place % 2).astype(np.float32)
    return frame


def matrix(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((400, 3)).astype(np.float32)


def features(values: np.ndarray | None = None) -> pd.DataFrame:
    now = matrix(1) if values is None else values
    return profile("video_features", ["ctr", "like_rate", "popularity"], now, [Range(0, 1)] * 3, matrix())


def tables() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "table": ["events", "features_user"],
            "rows": [100.0, 10.0],
            "repeated_keys": [0.0, 0.0],
            "age_h": [1.0, 0.0],
            "volume": [1.1, np.nan],
            "refused_share": [0.01, np.nan],
        }
    )


SUITES: dict[str, tuple[Callable[[], gx.ExpectationSuite], Callable[[], pd.DataFrame]]] = {
    "events": (lambda: suites.events_suite(events(), T - WEEK, T), events),
    "examples": (lambda: suites.examples_suite(SPLIT, 5, 7), examples),
    "features": (lambda: suites.features_suite(CONFIG), features),
    "tables": (lambda: suites.tables_suite(CONFIG), tables),
}


def put(column: str, value: object, rows: slice = slice(3, 4)) -> Change:
    """A change of some rows of one column."""

    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[rows], column] = value

    return change


def retyped(column: str, dtype: object) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].astype(dtype)

    return change


def failed(name: str, frame: pd.DataFrame) -> list[Failure]:
    return failures(run([(SUITES[name][0](), frame)]))


@pytest.mark.parametrize("name", SUITES)
def test_a_good_table_meets_its_suite(name: str) -> None:
    assert failed(name, SUITES[name][1]()) == []


LONG = slice(0, 200)
CASES = [
    ("events", put("event_id", None), "not_be_null", "event_id", "critical"),
    ("events", put("user_id", None), "not_be_null", "user_id", "critical"),
    ("events", put("user_id", "u" * 129), "lengths_to_be_between", "user_id", "critical"),
    ("events", put("event_type", "applause"), "be_in_set", "event_type", "critical"),
    ("events", put("video_id", None), "not_be_null", "video_id", "critical"),
    ("events", put("watch_duration_ms", -1), "values_to_be_between", "watch_duration_ms", "critical"),
    ("events", put("position", 10_001), "values_to_be_between", "position", "critical"),
    ("events", put("propensity", 1.5), "values_to_be_between", "propensity", "critical"),
    ("events", put("timestamp", pd.Timestamp(2026, 6, 8)), "values_to_be_between", "timestamp", "critical"),
    ("events", retyped("position", "float64"), "be_in_type_list", "position", "critical"),
    ("events", retyped("timestamp", "datetime64[ns]"), "be_in_type_list", "timestamp", "critical"),
    ("events", lambda f: f.drop(columns="device", inplace=True), "match_set", "the table", "critical"),
    ("events", put("device", None, LONG), "not_be_null", "device", "warning"),
    ("events", put("surface", "elsewhere", LONG), "kl_divergence", "surface", "warning"),
    ("examples", put("part", "test"), "be_in_set", "part", "critical"),
    ("examples", put("part", "train", slice(0, 90)), "contain_set", "part", "warning"),
    ("examples", put("user", 5), "values_to_be_between", "user", "critical"),
    ("examples", put("video", -1), "values_to_be_between", "video", "critical"),
    ("examples", put("position", -2), "values_to_be_between", "position", "critical"),
    ("examples", put("ts", SPLIT.until), "values_to_be_between", "ts", "critical"),
    ("examples", put("watch_s", -1.0), "values_to_be_between", "watch_s", "critical"),
    ("examples", put("click", np.nan), "not_be_null", "click", "critical"),
    ("examples", put("click", 0.0, slice(0, 90)), "mean_to_be_between", "click", "critical"),
    *[
        ("examples", put(head, 2.0), "be_in_set", head, "critical")
        for head in HEADS
        if head != "watch_s"
    ],
    ("features", put("missing", 0.6, slice(0, 1)), "values_to_be_between", "missing", "critical"),
    ("features", put("infinite", 0.01, slice(0, 1)), "values_to_be_between", "infinite", "critical"),
    ("features", put("lowest", -0.1, slice(0, 1)), "a_to_be_greater", "lowest and low", "critical"),
    ("features", put("highest", 1.1, slice(0, 1)), "a_to_be_greater", "high and highest", "critical"),
    ("features", put("shift", 0.3, slice(0, 1)), "values_to_be_between", "shift", "warning"),
    ("tables", put("rows", 0.0, slice(0, 1)), "values_to_be_between", "rows", "critical"),
    ("tables", put("repeated_keys", 2.0, slice(0, 1)), "values_to_be_between", "repeated_keys", "critical"),
    ("tables", put("age_h", 30.0, slice(0, 1)), "values_to_be_between", "age_h", "warning"),
    ("tables", put("volume", 0.4, slice(0, 1)), "values_to_be_between", "volume", "warning"),
    ("tables", put("refused_share", 0.2, slice(0, 1)), "values_to_be_between", "refused_share", "critical"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "expectation", "column", "severity"),
    CASES,
    ids=[f"{name}-{column}-{kind}" for name, _, kind, column, _ in CASES],
)
def test_each_expectation_is_failed_by_what_it_is_about(
    name: str, change: Change, expectation: str, column: str, severity: str
) -> None:
    suite, frame = SUITES[name][0](), SUITES[name][1]()
    change(frame)
    about = [each for each in suite.expectations if _column(each) == column]
    found = failures(run([(gx.ExpectationSuite(name, expectations=about), frame)]))
    assert [(each.column, each.severity) for each in found if expectation in each.expectation] == [
        (column, severity)
    ]


def test_every_expectation_is_in_a_case() -> None:
    """Those of events that are made by column are in it for one column at least."""
    covered = {(name, kind) for name, _, kind, _, _ in CASES}
    for name, (suite, _) in SUITES.items():
        for each in suite().expectations:
            assert any(kind in each.expectation_type for of, kind in covered if of == name), each


def test_a_failure_names_suite_expectation_column_expected_and_observed() -> None:
    frame = features()
    put("highest", 1.5, slice(1, 2))(frame)
    (failure,) = failed("features", frame)
    assert str(failure) == (
        "suite features: expect_column_pair_values_a_to_be_greater_than_b of high and highest: "
        "expected every row, observed high 1, block video_features, feature like_rate, highest 1.5"
    )


def test_the_critical_ones_come_first() -> None:
    frame = tables()
    frame.loc[0, ["age_h", "refused_share"]] = 30.0, 0.5
    assert [failure.severity for failure in failed("tables", frame)] == ["critical", "warning"]


def test_a_profile_is_of_all_rows_and_knows_missing_from_infinite() -> None:
    values = np.array([[0.5, np.nan], [np.inf, np.nan], [-2.0, np.nan], [np.nan, np.nan]], np.float32)
    found = profile("b", ["x", "y"], values, [Range(0, 1), Range(-1, 1)]).set_index("feature")
    assert found.loc["x", ["rows", "missing", "infinite", "lowest", "highest"]].tolist() == [
        4,
        0.25,
        0.25,
        -2,
        0.5,
    ]
    assert found.loc["y", ["missing", "infinite"]].tolist() == [1, 0]
    assert found.loc["y", ["lowest", "highest", "shift"]].isna().all()


def test_every_declared_feature_has_a_range_that_holds_its_default() -> None:
    for view in VIEWS.values():
        for feature in view.features:
            found = range_of(feature)
            assert found.low <= feature.default <= found.high
    assert range_of(FeatureSpec("x", "share", "", default=-1.0)) == Range(-1.0, 1.0)
    assert range_of(FeatureSpec("x", "furlongs", "")) == range_of(None) == Range(-HALF, HALF)
    assert UNITS["share"] == Range(0.0, 1.0)


def test_the_documents_name_what_failed_and_ask_no_other_host(tmp_path: Path) -> None:
    frame = events()
    put("event_type", "<b>applause</b>")(frame)
    results = run([(SUITES["events"][0](), frame), (SUITES["tables"][0](), tables())])
    index = write(results, failures(results), tmp_path / "documents", "2026-06-08 00:00 UTC")
    page = index.read_text()
    assert "Data quality of 2026-06-08" in page
    assert "expect_column_values_to_be_in_set" in page
    assert "&lt;b&gt;applause" in page
    assert '<span class="critical">1 critical</span>' in page
    assert '<span class="met">met</span>' in page
    assert "values must belong to this set" in (index.parent / "events.html").read_text()
    for file in index.parent.iterdir():
        text = file.read_text()
        assert "<script" not in text
        assert "src=" not in text
        assert "url(" not in text


def test_a_run_asks_no_network_prints_nothing_and_keeps_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    calls: list[object],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert failed("tables", tables()) == []
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert not calls


def _column(expectation: gx.expectations.Expectation) -> str:
    given = expectation.configuration.kwargs
    if "column_A" in given:
        return f"{given['column_A']} and {given['column_B']}"
    return str(given.get("column", "the table"))
