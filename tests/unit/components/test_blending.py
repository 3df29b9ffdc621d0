"""What the blend is fitted on: who newly watched what in the validation window, among which candidates."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from components.blending import BlendConfig, Wanted, pools_of
from models.blend import SIGNALS
from models.dataset import Interactions
from upnext.errors import EmptyData

IDS = pa.array(["a", "b", "c", "d"])


def data(user: list[int], video: list[int], long_view: list[float], seconds: list[float]) -> SimpleNamespace:
    """Examples of the window, which begins at 10; user 0 met video 0 before it, and video 1 within it."""
    rows = SimpleNamespace(
        user=np.array(user, np.int32),
        video=np.array(video, np.int32),
        labels={"long_view": np.array(long_view, np.float32), "watch_s": np.array(seconds, np.float32)},
    )
    met = Interactions(
        np.zeros(2, np.int32), np.array([0, 1], np.int32), np.array([5, 15]), *np.ones((2, 2), "f4"), 3
    )
    return SimpleNamespace(
        examples={"valid": rows},
        catalogue=IDS,
        users=["x", "y", "z"],
        interactions=met,
        split=SimpleNamespace(valid_start=10),
    )


def test_what_is_newly_watched_in_the_window_counts_once_and_the_most_of_it() -> None:
    nan = float("nan")
    window = data([0, 0, 0, 1, 2], [0, 1, 1, 2, 3], [1, 0, 1, 1, 0], [50, 3, 20, nan, 9])
    wanted = Wanted.of(window, sample=10, seed=0)
    assert wanted.users == ["x", "y"]  # z watched nothing for long
    long_view, seconds = wanted.gains(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]))
    assert long_view.tolist() == [0, 1, 1, 0]  # video 0 was met before
    assert seconds.tolist() == [0, 20, 0, 0]
    assert len(Wanted.of(window, sample=1, seed=0).users) == 1
    with pytest.raises(EmptyData, match="nobody newly watched"):
        Wanted.of(data([0], [0], [1], [50]), sample=10, seed=0)


def test_candidates_become_padded_and_standardised() -> None:
    wanted = Wanted(["x", "y"], 4, np.array([1, 6]), np.array([1.0, 1.0]), np.array([20.0, 0.0]))
    table = pa.table(
        {
            "user_id": ["y", "x", "y", "x", "y"],
            "position": pa.array([0, 0, 1, 1, 2], pa.int32()),
            "video_id": ["c", "a", "d", "b", "a"],
            **{name: pa.array([5, 1, 5, 3, 5], pa.float32()) for name in SIGNALS},
        }
    )
    pools = pools_of(table, wanted, IDS)
    assert pools.held.tolist() == [[True, True, False], [True, True, True]]
    assert pools.signals[0, :, 0].tolist() == [-1, 1, 0] and not pools.signals[1].any()
    assert pools.long_view.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert pools.seconds.tolist() == [[0, 20, 0], [0, 0, 0]]


@pytest.mark.parametrize("wrong", [{"users": 0}, {"ridge": -1.0}])
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BlendConfig(**wrong)  # type: ignore[arg-type]
