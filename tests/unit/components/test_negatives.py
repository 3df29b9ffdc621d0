import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.negatives import Seen, anchors_of, sample_unshown, whole_slates
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


# Slate 0: three shown; 1: one shown; 2: two watched elsewhere; 3: one shown and one watched elsewhere.
REQUEST = np.array([0, 0, 0, 1, 2, 2, 3, 3])
SHOWN = np.array([1, 1, 1, 1, 0, 0, 1, 0], np.bool_)


def test_a_slate_gets_no_more_negatives_than_it_has_videos() -> None:
    assert anchors_of(REQUEST, SHOWN, 2).tolist() == [0, 0, 3, 4, 4, 5, 5, 6, 6]
    assert anchors_of(REQUEST, SHOWN, 4).tolist() == [0, 0, 0, 3, *[4] * 4, *[5] * 4, 6, 6]
    assert anchors_of(REQUEST, SHOWN, 0).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_what_was_shown_is_drawn_first(seed: int) -> None:
    def drawn(most: int) -> list[int]:
        return whole_slates(REQUEST, SHOWN, 2, most, np.random.default_rng(seed)).tolist()

    # With their negatives the slates have 5, 2, 6 and 4 rows.
    assert drawn(17) == list(range(8))
    assert drawn(16) == drawn(11) == [0, 1, 2, 3, 6, 7]
    few = drawn(9)
    assert set(few) < {0, 1, 2, 3, 6, 7}
    assert few == np.flatnonzero(np.isin(REQUEST, REQUEST[few])).tolist()
    assert {REQUEST[row] for row in drawn(1)} <= {0, 1, 3} and len({REQUEST[row] for row in drawn(1)}) == 1
