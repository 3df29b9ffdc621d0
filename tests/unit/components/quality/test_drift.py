"""Drift between two windows: found where it is, not where it is not, and drawn without a network."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.quality.drift import Window, compare, write_report
from components.quality.settings import DriftConfig

ROWS = 5_000
CONFIG = DriftConfig(shown=2)


def window(seed: int, moved: float = 0.0, liked: float = 0.0) -> Window:
    """Three features, of which ``a`` may have moved, and two heads, of which ``like`` may have."""
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(
        rng.normal(size=(ROWS, 3)).astype(np.float32), columns=["user.a", "user.b", "cross.c"]
    )
    features["user.a"] += moved
    heads = pd.DataFrame({"click": rng.random(ROWS), "like": rng.random(ROWS) + liked}, dtype=np.float32)
    return Window(features, heads)


def test_two_windows_of_one_distribution_have_not_drifted() -> None:
    found = compare(window(0), window(1), CONFIG)
    assert found.share == 0.0
    assert max(found.predictions.values()) < CONFIG.most


def test_a_shift_is_found_where_it_is_and_by_its_size() -> None:
    found = compare(window(0), window(1, moved=0.5, liked=0.3), CONFIG)
    assert next(iter(found.features)) == "user.a"
    assert found.features["user.a"] == pytest.approx(0.5, abs=0.1), "in standard deviations of the earlier"
    assert found.share == pytest.approx(1 / 3)
    assert found.predictions["like"] > CONFIG.most > found.predictions["click"]
    metrics = found.metrics(top=2)
    assert set(metrics) >= {"drifted_share", "prediction.click", "prediction.like", "feature.user.a"}
    assert len(metrics) == 5


def test_columns_of_one_window_only_and_unknown_values_are_left_out() -> None:
    before, now = window(0), window(1)
    before.features["old"] = 0.0
    now.features["user.b"] = np.nan
    now.features.loc[3, "user.a"] = np.nan
    assert set(compare(before, now, CONFIG).features) == {"user.a", "cross.c"}


def test_a_window_comes_back_from_its_file(tmp_path: Path) -> None:
    kept = window(0)
    kept.save(tmp_path / "window.parquet")
    found = Window.load(tmp_path / "window.parquet")
    pd.testing.assert_frame_equal(found.features, kept.features)
    pd.testing.assert_frame_equal(found.predictions, kept.predictions)


def test_the_report_draws_what_moved_most_and_calls_nobody(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    calls: list[object],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before, now = window(0), window(1, moved=0.5)
    file = tmp_path / "index.html"
    write_report(before, now, compare(before, now, CONFIG), CONFIG, file)
    page = file.read_text()
    assert "user.a" in page
    assert "prediction: click" in page
    assert 'src="http' not in page
    assert not (tmp_path / "home").exists()
    assert capfd.readouterr().out == ""
    assert not calls
