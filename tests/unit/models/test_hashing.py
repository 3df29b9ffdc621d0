"""Hashed vectors: the same everywhere and always, of length 1, near to each other as the words are."""

import numpy as np
import pyarrow as pa
import pytest

from models.affinity import Affinities
from models.cross_specs import AFFINITY_NAMES
from models.hashing import hashed_column, hashed_tags, hashed_texts, place_and_sign, unit


def test_a_word_goes_to_the_same_place_on_every_machine() -> None:
    found = [place_and_sign(word, 8) for word in ("music", "jazz", "日本", "")]
    assert found == [(2, 1), (1, -1), (4, 1), (2, 1)]


def test_columns_by_hand() -> None:
    place, sign = place_and_sign("music", 8)
    rows = hashed_column(pa.chunked_array([["music", None], ["music"]]), 8)
    wanted = np.zeros(8, np.float32)
    wanted[place] = sign
    np.testing.assert_array_equal(rows, np.stack([wanted, np.zeros(8), wanted]))


def test_tags_are_sets_of_words() -> None:
    lists = pa.array([["Red Shoes", "red"], ["shoes", "RED"], [], None, [None]], pa.list_(pa.string()))
    rows = hashed_tags(lists, 8)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.linalg.norm(rows[0]) == pytest.approx(1)
    assert not rows[2:].any()
    np.testing.assert_array_equal(hashed_texts(["red shoes", ""], 8), rows[[0, 2]])


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    lists = [[f"tag{n}" for n in rng.integers(0, 30, rng.integers(0, 6))] for _ in range(200)]
    whole = hashed_tags(pa.array(lists, pa.list_(pa.string())))
    for place in range(0, 200, 17):
        alone = hashed_tags(pa.array([lists[place]], pa.list_(pa.string())))
        np.testing.assert_array_equal(alone[0], whole[place])


def test_products_estimate_what_is_shared() -> None:
    """Weinberger et al. 2009: the hashed kernel is unbiased; over many words it nears the share in common."""
    words = [f"w{n}" for n in range(400)]
    sums = np.zeros((2, 4_096))
    for row, part in enumerate((words[:300], words[100:])):
        for word in part:
            place, sign = place_and_sign(word, 4_096)
            sums[row, place] += sign
    assert sums[0] @ sums[1] == pytest.approx(200, abs=25)


def test_zeros_have_no_direction() -> None:
    assert unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
    assert unit(np.array([[3, 4]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_affinities_by_hand() -> None:
    user = ["a", "taste_category_0", "taste_category_1", "history_tag_0", "history_tag_1", "taste_tag_0"]
    video = ["category_hash_0", "category_hash_1", "b", "tag_hash_0", "tag_hash_1"]
    affinities = Affinities.of(user, video)
    tastes = np.array([[9, 0.6, 0.8, 1, 0, 5]], np.float32)
    videos = np.array([[1, 0, 9, 0, 1], [0.6, 0.8, 9, 1, 0]], np.float32)
    rows = affinities.features(tastes, videos, np.array([[0, 1]], np.float32))
    named = {name: rows[:, place].tolist() for place, name in enumerate(AFFINITY_NAMES)}
    assert named["affinity_category"] == pytest.approx([0.6, 1])
    assert named["affinity_history"] == [0, 1] and named["query_match"] == [1, 0]
    assert named["affinity_creator"] == named["affinity_tag"] == [0, 0]  # one of both lacks the vector
    each = affinities.features(np.repeat(tastes, 2, axis=0), videos, np.array([[0, 1]] * 2, np.float32))
    np.testing.assert_allclose(each, rows, rtol=1e-6)
