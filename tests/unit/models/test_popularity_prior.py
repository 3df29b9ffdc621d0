"""What is expected of a video's popularity: what videos like it have, and on average what all have."""

from pathlib import Path

import numpy as np
import pytest

from models.popularity_prior import PopularityPrior
from models.video_inputs import TOKENS, VISUAL, VideoInputs
from upnext.errors import CorruptData


def inputs_of(creator: np.ndarray) -> VideoInputs:
    n = len(creator)
    nothing = np.zeros(n, np.int64)
    return VideoInputs(
        np.zeros((n, TOKENS), np.int64),
        nothing,
        creator.astype(np.int64),
        nothing,
        nothing,
        np.zeros((n, VISUAL), np.float32),
    )


CREATOR = np.arange(90) % 3
"""Thirty videos of nobody known, of creator 1 and of creator 2."""
POPULARITY = np.array([5.0, 1.0, 99.0])[CREATOR]
ALL = np.ones(90, np.bool_)


def test_it_is_what_the_creators_videos_have_shrunk_towards_all() -> None:
    """A ridge of 3 beside 30 videos: a creator's mean logarithm counts 30 / 33 of its distance to the mean of
    all, which those of nobody keep."""
    told = PopularityPrior.fit(inputs_of(CREATOR), POPULARITY, ALL).of(inputs_of(np.arange(3)))
    actual = np.log((np.array([5.0, 1.0, 99.0]) + 1) / (35 + 1))
    expected = (actual - actual.mean()) * np.array([0, 30 / 33, 30 / 33])
    np.testing.assert_allclose(told - told[0], expected, atol=1e-4)


def test_on_average_it_expects_what_there_is() -> None:
    """The mean of the known videos' popularity, and not exp of its mean logarithm, is kept."""
    rng = np.random.default_rng(0)
    popularity = np.exp(rng.normal(2, 2, 90)) - 1 + 0.5
    prior = PopularityPrior.fit(inputs_of(CREATOR), popularity, ALL)
    np.testing.assert_allclose(np.exp(prior.videos).mean(), 1, rtol=1e-5)


def test_videos_that_nobody_met_say_nothing_and_are_told_of_all_the_same() -> None:
    met = np.arange(90) >= 30
    known = PopularityPrior.fit(inputs_of(CREATOR), np.where(met, POPULARITY, 0), met)
    other = PopularityPrior.fit(inputs_of(CREATOR), np.where(met, POPULARITY, 0), ALL)
    np.testing.assert_allclose(known.videos, known.of(inputs_of(CREATOR)))
    assert known.videos[2] == pytest.approx(np.log(100 / (70 / 3 + 1)), abs=0.1)
    assert other.videos[2] < known.videos[2] - 0.3


def test_save_and_load(tmp_path: Path) -> None:
    prior = PopularityPrior.fit(inputs_of(CREATOR), POPULARITY, ALL)
    prior.save(tmp_path / "prior.npz")
    loaded = PopularityPrior.load(tmp_path / "prior.npz")
    np.testing.assert_array_equal(loaded.of(inputs_of(CREATOR)), prior.videos)
    (tmp_path / "prior.npz").write_bytes(b"nothing")
    with pytest.raises(CorruptData):
        PopularityPrior.load(tmp_path / "prior.npz")
