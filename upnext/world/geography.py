"""The world's fixed tables (topics, regions, languages, devices, ages) and the latent space of tastes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.world.draws import Stream, keys_at, normals

TOPICS = (
    "cooking", "football", "gaming", "music", "travel", "fitness", "science", "history",
    "comedy", "fashion", "beauty", "cars", "pets", "nature", "diy", "gardening",
    "coding", "finance", "movies", "art", "dance", "space", "parenting", "chess",
)  # fmt: skip
TOPIC_SHARES = (1.0 / np.arange(1, len(TOPICS) + 1) ** 0.6)[
    [3, 1, 2, 0, 8, 9, 10, 15, 4, 7, 6, 11, 5, 13, 12, 20, 16, 14, 17, 18, 19, 21, 22, 23]
]
"""How many creators and viewers a topic draws: Zipf-like, music first."""
TOPIC_SECONDS = np.array(
    [75, 60, 110, 70, 90, 55, 120, 140, 35, 40, 45, 90, 30, 60, 100, 85, 150, 95, 80, 50, 28, 130, 65, 105],
    dtype=np.float64,
)
"""Median duration of a topic's videos in seconds."""

REGIONS = ("US", "IN", "GB", "DE", "FR", "ES", "MX", "JP")
REGION_SHARES = (0.26, 0.16, 0.10, 0.10, 0.10, 0.08, 0.10, 0.10)
UTC_OFFSET_H = np.array([-5.0, 5.5, 1.0, 2.0, 2.0, 2.0, -6.0, 9.0])
LANGUAGES = ("en", "de", "fr", "es", "ja")
HOME_LANGUAGE = np.array([0, 0, 0, 1, 2, 3, 3, 4], dtype=np.int8)
"""Language code of each region."""
ENGLISH = 0

AGE_GROUPS = ("13-17", "18-24", "25-34", "35-49", "50+")
AGE_SHARES = (0.12, 0.26, 0.28, 0.21, 0.13)
MINORS = 0
"""Code of the age group that is shown no age-restricted video."""
DEVICES = ("mobile", "desktop", "tv", "tablet")
DEVICE_SHARES = (0.62, 0.20, 0.10, 0.08)

DIMENSIONS = 16


@dataclass(frozen=True)
class Space:
    """Where topics lie in the latent space, and who leans to what.

    centres: float32[24, 16], unit length; near topics please the same viewers.
    leaning: float64[regions, ages, 24], log-weight of each topic for a viewer of that region and age.
    """

    centres: NDArray[np.float32]
    leaning: NDArray[np.float64]


def make_space(seed: int) -> Space:
    """The space of one seed's world."""
    keys = keys_at(seed, Stream.SPACE, np.arange(len(TOPICS)))
    centres = normals(keys, 0, DIMENSIONS)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    by_region = 0.5 * normals(keys, 100, len(REGIONS)).T
    by_age = 0.6 * normals(keys, 200, len(AGE_GROUPS)).T
    leaning = np.log(TOPIC_SHARES) + by_region[:, None, :] + by_age[None, :, :]
    return Space(centres.astype(np.float32), leaning)
