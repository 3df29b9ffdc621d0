import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.negatives import Seen, sample_unshown
from models.catalogue import Catalogue
from tests.support.small_log import START, small_log, video
from upnext.contracts import VIDEOS
from upnext.times import DAY_US

NOON = int(START.timestamp()) * 1_000_000 + DAY_US // 2


def catalogue(places: int) -> Catalogue:
    return Catalogue.of(pa.Table.from_pylist([video(place) for place in range(places)], VIDEOS))


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), places=st.integers(0, 300), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_never_shown_that_day_nor_uploaded_later_nor_blocked(seed: int, places: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    videos = Catalogue.of(small_log(seed=3).videos)
    n = len(videos)
    met = int32(*rng.integers(0, 4, 150)), int32(*rng.integers(0, n, 150))
    met_at = NOON + rng.integers(-2 * DAY_US, 12 * DAY_US, 150)
    seen = Seen.of(*met, met_at, n)
    row = rng.integers(0, 150, places)
    user, ts = met[0][row], met_at[row]
    drawn = sample_unshown(videos, rng.integers(0, 9, n), seen, user, ts, popular_share=share, rng=rng)
    shown = set(zip(met[0].tolist(), met[1].tolist(), (met_at // DAY_US).tolist(), strict=True))
    for viewer, chosen, at in zip(user.tolist(), drawn.tolist(), ts.tolist(), strict=True):
        if chosen >= 0:
            assert (viewer, chosen, at // DAY_US) not in shown
            assert videos.uploaded_at[chosen] < at
            assert videos.active[chosen]


def test_shares_are_those_asked_for() -> None:
    videos, places = catalogue(4), 40_000
    popularity = np.array([0, 1, 3, 0])
    none = Seen.of(int32(), int32(), np.empty(0, np.int64), 4)
    drawn = sample_unshown(
        videos,
        popularity,
        none,
        np.zeros(places, np.int32),
        np.full(places, NOON),
        popular_share=0.5,
        rng=np.random.default_rng(0),
    )
    share = np.bincount(drawn, minlength=4) / places
    np.testing.assert_allclose(share, [0.125, 0.25, 0.5, 0.125], atol=0.01)


@pytest.mark.parametrize("popularity", [[0, 0], [5, 5]])
def test_who_met_every_video_gets_none(popularity: list[int]) -> None:
    seen = Seen.of(int32(0, 0), int32(0, 1), np.array([NOON, NOON]), 2)
    user, ts = int32(0, 0, 1), np.array([NOON, NOON, NOON])
    drawn = sample_unshown(
        catalogue(2),
        np.array(popularity),
        seen,
        user,
        ts,
        popular_share=0.5,
        rng=np.random.default_rng(0),
    )
    assert drawn[:2].tolist() == [-1, -1]
    assert drawn[2] >= 0
