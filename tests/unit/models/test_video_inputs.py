"""Hashed inputs, by hand."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from models.catalogue import Catalogue
from models.video_inputs import CATEGORY_BUCKETS, TOKEN_BUCKETS, VideoInputs, bucket, words
from upnext.contracts import VIDEOS

HOUR = 3_600_000_000


def test_words_of_titles_in_many_scripts() -> None:
    assert words("Cats & cats: 10 Best!", ["Funny cats"]) == ["#funny cats", "cats", "10", "best"]
    assert words("今日は猫", []) == ["今日", "日は", "は猫"]
    assert words("Köln, мир", ()) == ["köln", "мир"]
    assert words("", []) == []


def test_inputs_mean_the_same_in_every_catalogue() -> None:
    rows = [
        {"video_id": "a", "title": "Cats", "tags": ["x"], "category": "pets", "duration_ms": 4_000},
        {
            "video_id": "b",
            "category": "zoo",
            "creator_id": "c",
            "uploaded_at": datetime(2026, 1, 1, tzinfo=UTC),
        },
    ]
    both = VideoInputs.of(Catalogue.of(pa.Table.from_pylist(rows, VIDEOS)))
    alone = VideoInputs.of(Catalogue.of(pa.Table.from_pylist(rows[1:], VIDEOS)))
    assert both.tokens[0, :3].tolist() == [bucket("#x", TOKEN_BUCKETS), bucket("cats", TOKEN_BUCKETS), 0]
    assert both.category.tolist() == [bucket("pets", CATEGORY_BUCKETS), bucket("zoo", CATEGORY_BUCKETS)]
    assert both.creator[0] == 0
    assert (alone.category[0], alone.creator[0]) == (both.category[1], both.creator[1])
    assert both.duration.tolist() == [1, 0]


def test_age_and_duration_buckets() -> None:
    rows = [{"video_id": "a"}, {"video_id": "b", "uploaded_at": datetime(1970, 1, 2, tzinfo=UTC)}]
    inputs = VideoInputs.of(Catalogue.of(pa.Table.from_pylist(rows, VIDEOS)))
    at = np.array([1, 1, 1, 1, 1, 0])
    hours = np.array([0, 24.5, 25.5, 27, 10**6, 24]) * HOUR
    assert inputs.age(at, hours.astype(np.int64)).tolist() == [1, 1, 2, 3, 15, 0]
    lengths = [
        {"video_id": f"v{i}", "duration_ms": ms} for i, ms in enumerate([1, 5_000, 8_000, 10_000, 10**7])
    ]
    long = VideoInputs.of(Catalogue.of(pa.Table.from_pylist(lengths, VIDEOS)))
    assert long.duration.tolist() == [1, 2, 3, 4, 15]
