"""Cross features: worked by hand on four videos, the same alone and in a batch, finite or NaN on anything."""

from datetime import UTC, datetime
from math import log

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.cross_specs import CROSS_NAMES
from models.crosses import LENGTH, Crosses, Viewers
from models.history import Histories
from models.neighbours import Neighbours
from models.popularity import Popularity
from upnext.contracts import VIDEOS

HOUR = 3_600
DAY_US = 86_400 * 1_000_000
NOW = 10 * DAY_US


def catalogue(n: int) -> Catalogue:
    rows = [
        {
            "video_id": f"v{row}",
            "category": [None, "music", "music", "news"][row % 4],
            "creator_id": ["ann", "ann", "bob", None][row % 4],
            "duration_ms": [None, 10_000, 20_000, 40_000][row % 4],
            "uploaded_at": None if row == 0 else datetime.fromtimestamp(row * 86_400, UTC),
            "language": ["en", "en", "pt", None][row % 4],
            "status": "active",
        }
        for row in range(n)
    ]
    return Catalogue.of(pa.Table.from_pylist(rows, schema=VIDEOS))


ALS = np.array([[1, 0], [0, 2], [3, 4], [0, 0]], np.float32)
TOWER = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32)
COUNTS = np.array([[0, 1, 2, 5], [0, 0, 1, 0]], np.float32)
NEAR = Neighbours(np.array([[2], [2], [0], [-1]], np.int32), np.array([[0.5], [0.25], [1], [0]], np.float32))


@pytest.fixture(scope="module")
def crosses() -> Crosses:
    return Crosses(catalogue(4), ALS, TOWER, Popularity(COUNTS, ("br",), as_of=NOW), NEAR)


def viewer(rows: list[int], strength: list[float], hours: list[float], **given: object) -> Viewers:
    history = Histories(
        np.array([rows], np.int32), np.array([strength], np.float32), np.array([hours], np.float32) * HOUR
    )
    columns = {
        "als": np.array([[1, 1]], np.float32),
        "tower": np.array([[0, 1]], np.float32),
        "now": np.array([NOW]),
        "region": np.zeros(1, np.int32),
        "language": np.zeros(1, np.int32),
    }
    return Viewers(histories=history, **(columns | given))


def of(crosses: Crosses, viewers: Viewers, video: int) -> dict[str, float]:
    values = crosses.features(viewers, np.full((1, 1), video, np.int32))[0, 0]
    return dict(zip(CROSS_NAMES, values.tolist(), strict=True))


def test_similarities_by_hand(crosses: Crosses) -> None:
    # Liked video 1 a day ago (strength 2), video 0 just now (1); disliked video 2.
    seen = of(crosses, viewer([0, 2, 1, -1], [1, -1, 2, 0], [0, 1, 24, 0]), 2)
    assert seen["als_score"] == 7
    assert seen["als_similarity_max"] == pytest.approx(0.8)
    assert seen["als_similarity_mean"] == pytest.approx((1 * 0.6 + 2 * 0.8) / 3)
    assert seen["als_similarity_recent"] == pytest.approx((1 * 0.6 + 1 * 0.8) / 2)
    assert seen["als_neighbours"] == pytest.approx(log(1 + 0.6**4 + 2 * 0.8**4))
    assert seen["tower_score"] == pytest.approx(0.8)
    assert of(crosses, viewer([0], [1], [0]), 3)["tower_similarity_max"] == -1


def test_affinities_by_hand(crosses: Crosses) -> None:
    # Video 1: music by ann, watched whole 3 h ago; video 2: music by bob, half 1 h ago; video 3: news, whole.
    known = viewer([2, 1, 3], [0.5, 1, 1], [1, 3, 5])
    first = of(crosses, known, 1)
    usual = 2.5 / 3
    assert first["category_share"] == pytest.approx(1.5 / 3.5)
    assert first["category_strength"] == pytest.approx((1.5 + usual) / 3)
    assert first["category_count"] == pytest.approx(log(3))
    assert first["category_hours_since"] == pytest.approx(log(2))
    assert first["creator_share"] == pytest.approx(1 / 3.5)
    assert first["creator_hours_since"] == pytest.approx(log(4))
    unknown = of(crosses, known, 3)
    assert all(np.isnan(unknown[f"creator_{name}"]) for name in ("share", "strength", "count", "hours_since"))


def test_what_was_seen(crosses: Crosses) -> None:
    known = viewer([2, 1], [-1, 0.5], [1, 3])
    assert of(crosses, known, 2)["seen"] == 1
    assert of(crosses, known, 2)["seen_strength"] == -1
    assert of(crosses, known, 2)["seen_hours_since"] == pytest.approx(log(2))
    assert of(crosses, known, 3)["seen"] == 0
    assert np.isnan(of(crosses, known, 3)["seen_hours_since"])


def test_the_candidate_itself(crosses: Crosses) -> None:
    known = viewer([1, 3], [1, 1], [1, 1], region=crosses.region_codes(["br"]))
    values = of(crosses, known, 2)
    assert values["popularity"] == pytest.approx(log((2 + 0.02) / 2), abs=1e-5)
    assert values["popularity_in_region"] == pytest.approx(log((1 + 0.0025) / 0.25), abs=1e-4)
    assert values["hours_since_upload"] == pytest.approx(log(1 + 8 * 24))
    assert values["duration"] == pytest.approx(log(20))
    assert values["duration_ratio"] == pytest.approx(0, abs=1e-6)  # between 10 s and 40 s, on a log scale
    assert np.isnan(of(crosses, known, 0)["hours_since_upload"])
    assert np.isnan(of(crosses, known, 0)["duration"])


def test_looks_by_hand() -> None:
    looks = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)
    crosses = Crosses(catalogue(4), ALS, TOWER, Popularity(COUNTS, ("br",), NOW), NEAR, looks)
    # Liked video 1 a day ago, half its weight left, and video 0 just now; disliked video 2.
    known = viewer([0, 2, 1], [1, -1, 2], [0, 1, 24])
    assert of(crosses, known, 2)["visual_similarity"] == pytest.approx((1 * 0.6 + 1 * 0.8) / 2)
    assert of(crosses, known, 3)["visual_similarity"] == 0


def test_votes_come_of_all_that_was_liked(crosses: Crosses) -> None:
    known = viewer([3] * LENGTH + [0, 1], [1] * LENGTH + [4, 1], [1] * (LENGTH + 2))
    assert of(crosses, known, 2)["neighbour_votes"] == pytest.approx(2 * 0.5 + 0.25)
    assert of(crosses, known, 1)["neighbour_votes"] == 0


def test_languages_and_regions_by_name(crosses: Crosses) -> None:
    english = viewer([], [], [], language=crosses.language_codes(["en"]))
    assert [of(crosses, english, video)["language_match"] for video in (0, 2)] == [1, 0]
    assert np.isnan(of(crosses, english, 3)["language_match"])
    nobody = viewer([], [], [], language=crosses.language_codes([None]))
    assert np.isnan(of(crosses, nobody, 0)["language_match"])
    assert crosses.region_codes(["br", "xx", None]).tolist() == [1, 0, 0]


@pytest.mark.parametrize("length", [0, 3])
def test_a_viewer_of_whom_nothing_is_known(crosses: Crosses, length: int) -> None:
    values = of(crosses, viewer([-1] * length, [0] * length, [0] * length), 1)
    assert values["history_size"] == values["category_share"] == values["seen"] == 0
    assert np.isnan(values["hours_idle"])
    assert np.isnan(values["duration_ratio"])


def random_viewers(count: int, videos: int, seed: int) -> Viewers:
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(videos)[:6] for _ in range(count)]).astype(np.int32)
    pads = np.arange(6) >= rng.integers(0, 7, (count, 1))
    age = np.sort(rng.exponential(1e5, (count, 6)), axis=1)
    history = Histories(
        np.where(pads, -1, rows).astype(np.int32),
        np.where(pads, 0, rng.uniform(-1, 3, (count, 6))).astype(np.float32),
        np.where(pads, 0, age).astype(np.float32),
    )
    als, tower = rng.normal(size=(2, count, 2)).astype(np.float32)
    now = NOW + rng.integers(0, DAY_US, count)
    codes = rng.integers(0, 2, (2, count)).astype(np.int32)
    return Viewers(history, als, tower, now, codes[0], codes[1])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1_000))
def test_batches_equal_singles_and_nothing_is_infinite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 12
    items = rng.normal(size=(2, n, 2)).astype(np.float32)
    near = Neighbours(np.argsort(rng.random((n, n)))[:, :3].astype("i4"), rng.random((n, 3)).astype("f4"))
    popularity = Popularity(np.ones((2, n), "f4"), ("br",), NOW)
    crosses = Crosses(catalogue(n), items[0], items[1], popularity, near)
    viewers = random_viewers(5, n, seed)
    candidates = rng.integers(0, n, (5, 7)).astype(np.int32)
    together = crosses.features(viewers, candidates)
    assert not np.isinf(together).any()
    for row in range(5):
        alone = crosses.features(viewers[row : row + 1], candidates[row : row + 1, 2:3])
        np.testing.assert_allclose(alone[0, 0], together[row, 2], rtol=1e-5, atol=1e-5)
    which = rng.integers(0, 5, 20)
    video = rng.integers(0, n, 20).astype(np.int32)
    pairs = crosses.pairs(viewers, which, video)
    for place in range(20):
        single = crosses.features(viewers[which[place] : which[place] + 1], video[place : place + 1][:, None])
        np.testing.assert_allclose(pairs[place], single[0, 0], rtol=1e-5, atol=1e-5)


def test_parts_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match="tower_items has 3 rows for a catalogue of 4"):
        Crosses(catalogue(4), ALS, TOWER[:3], Popularity(COUNTS, ("br",), NOW), NEAR)
