from datetime import UTC, datetime

import numpy as np
import pytest

from feature_repo.context import CONTEXT_HISTORY, context_features, context_layout
from models.history import Histories


def micros(*times: datetime) -> np.ndarray:
    return np.array([int(time.timestamp()) * 1_000_000 for time in times], np.int64)


def test_hand_worked() -> None:
    layout = context_layout(["home"], ["phone", "tv"])
    histories = Histories.empty(2, CONTEXT_HISTORY)
    histories.rows[0, :2] = [4, 7]
    histories.age_s[0, :2] = [600, 9000]
    saturday_six, monday = datetime(2026, 3, 7, 6, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    rows = context_features(layout, micros(saturday_six, monday), ["home", None], ["tv", "watch"], histories)
    first, second = (dict(zip(layout.names, row, strict=True)) for row in rows.tolist())
    assert first["hour_sin"] == pytest.approx(1) and first["hour_cos"] == pytest.approx(0, abs=1e-6)
    assert first["weekday_sin"] == pytest.approx(np.sin(5 / 7 * 2 * np.pi), rel=1e-5)
    assert (first["weekend"], second["weekend"]) == (1, 0)
    assert first["history_length"] == pytest.approx(np.log(3))
    assert first["minutes_since_watch"] == pytest.approx(np.log(11))
    assert (first["surface=home"], first["device=phone"], first["device=tv"]) == (1, 0, 1)
    assert (second["surface=home"], second["device=phone"], second["device=tv"]) == (0, 0, 0)
    assert (second["hour_sin"], second["hour_cos"], second["weekday_cos"]) == (0, 1, 1)
    assert second["minutes_since_watch"] == pytest.approx(np.log(1 + 90 * 24 * 60))


def test_a_batch_equals_its_rows_one_by_one() -> None:
    layout = context_layout(["home", "related"], ["phone"])
    rng = np.random.default_rng(0)
    ts = rng.integers(0, 2**51, 50)
    histories = Histories(
        rng.integers(0, 9, (50, 60)).astype(np.int32),
        np.ones((50, 60), np.float32),
        rng.random((50, 60)).astype(np.float32),
    )
    surface, device = rng.choice(["home", "related", "x"], 50), rng.choice(["phone", "tv"], 50)
    whole = context_features(layout, ts, surface, device, histories)
    for n in range(50):
        one = slice(n, n + 1)
        np.testing.assert_array_equal(
            context_features(layout, ts[one], surface[one], device[one], histories[one])[0], whole[n]
        )


def test_at_most_sixteen_surfaces_are_told_apart() -> None:
    layout = context_layout([f"s{n}" for n in range(40)], [])
    assert sum(name.startswith("surface=") for name in layout.names) == 16
