"""Features of a new video, worked by hand."""

from math import log1p

import numpy as np
import pytest

from feature_repo.layout import layouts
from feature_repo.specs import VIDEO_VIEW
from feature_repo.unseen import UnseenVideos
from models.hashing import hashed_column, hashed_tags
from tests.support.videos import DAY_US, NOW, catalogue_of

LAYOUT = layouts()[VIDEO_VIEW]
AT = {name: place for place, name in enumerate(LAYOUT.names)}


@pytest.fixture
def features():
    """Of v000 and v001 by ann and v002, which nobody was shown, by bob."""
    made = np.full((3, LAYOUT.width), 0.5, np.float32)
    made[:, AT["creator_watches_30d"]] = [1, 2, 3]
    made[2, [AT["impressions_30d"], AT["watches_30d"]]] = 0
    made[2, AT["ctr"]] = 0.0625
    return made


def new(**columns):
    count = len(columns["creator_id"])
    return catalogue_of(count, age_days=[0.5] * count, **columns)


def test_received_like_what_nobody_was_shown_and_its_creator_s_otherwise(features):
    known = catalogue_of(3, creator_id=["ann", "ann", "bob"])
    videos = new(
        creator_id=["ann", "new", None],
        duration_ms=[59_000, None, 59_000],
        tags=[["cats"], None, []],
        category=["a", "b", None],
    )
    made = UnseenVideos(known, features, LAYOUT).of(videos, NOW)
    assert made[:, AT["ctr"]].tolist() == [0.0625] * 3
    assert made[:, AT["impressions_30d"]].tolist() == [0, 0, 0]
    assert made[:, AT["creator_watches_30d"]].tolist() == [2, 0, 0]
    assert made[:, AT["creator_idle_h"]].tolist() == [0.5, -1, -1]
    np.testing.assert_allclose(made[:, AT["age_h"]], log1p(12), rtol=1e-6)
    np.testing.assert_allclose(made[:, AT["duration_s"]], [log1p(59), -1, log1p(59)], rtol=1e-6)
    for name, words in (
        ("category_hash", hashed_column(videos.table["category"], 8)),
        ("creator_hash", hashed_column(videos.table["creator_id"], 8)),
        ("tag_hash", hashed_tags(videos.table["tags"])),
    ):
        places = [AT[f"{name}_{place}"] for place in range(8)]
        np.testing.assert_array_equal(made[:, places], words)
        assert words[0].any() and not words[2].any()
    assert not made[:, AT["visual_0"]].any()


def test_without_such_a_video_the_declared_defaults(features):
    features[2] = 0.5
    made = UnseenVideos(catalogue_of(3, creator_id=["ann", "ann", "bob"]), features, LAYOUT).of(
        new(creator_id=["new"]), NOW + DAY_US // 2
    )
    assert made[0, AT["ctr"]] == 0 and made[0, AT["creator_idle_h"]] == -1
    assert made[0, AT["age_h"]] == np.float32(log1p(24))
