"""What is special to each retriever; what they share is in tests/contract/test_retrievers.py."""

import numpy as np
import pytest

from models.index import ExactIndex
from models.popularity import Popularity
from serving import retrievers
from serving.groups import Groups
from serving.search import TextIndex
from serving.trending import LiveCounts, Trending
from serving.viewer import Crowd, pasts
from tests.support.videos import NOW, catalogue_of, viewer_of

CATEGORIES = ["cats", "dogs", "cats", "dogs", "cats", "news", None, "cats"]
CREATORS = ["a", "b", "a", "b", "c", "c", None, "a"]
MERIT = np.arange(8, dtype=np.float32)


@pytest.fixture
def catalogue():
    return catalogue_of(8, category=CATEGORIES, creator_id=CREATORS, title=[f"clip {i}" for i in range(8)])


def crowd_of(*viewers, als=None):
    vectors = np.zeros((len(viewers), 2), np.float32) if als is None else np.asarray(als, np.float32)
    return Crowd(viewers, pasts(viewers), vectors, vectors)


def group(catalogue, codes, names, **options):
    return retrievers.SameGroup(codes, Groups.by(codes, MERIT, catalogue.active, len(names)), **options)


def test_nearest_finds_by_inner_product_and_says_nothing_of_strangers():
    vectors = np.asarray([[1, 0], [0, 1], [2, 2], [-1, 0]], np.float32)
    nearest = retrievers.Nearest(lambda crowd: crowd.als, ExactIndex.build(vectors))
    known, stranger = nearest.retrieve(crowd_of(viewer_of(), viewer_of(), als=[[1, 0.1], [0, 0]]), 6)
    assert known.rows.tolist() == [2, 0, 1, 3]
    assert len(stranger) == 0


def test_because_you_watched_names_the_video_that_argues_most():
    rows = np.asarray([[1, 2], [3, -1], [-1, -1], [-1, -1]], np.int32)
    scores = np.asarray([[0.2, 0.9], [0.5, 0], [0, 0], [0, 0]], np.float32)
    rows[1] = [2, 3]
    scores[1] = [0.3, 0.4]
    found = retrievers.BecauseYouWatched(rows, scores).retrieve(
        crowd_of(viewer_of([0, 1], strength=[1, 2], age_s=[0, 0])), 10
    )[0]
    votes = dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
    assert votes == pytest.approx({2: 0.9 + 0.6, 3: 0.8, 1: 0.2})
    assert dict(zip(found.rows.tolist(), found.evidence.tolist(), strict=True)) == {2: 0, 3: 1, 1: 0}


def test_because_you_watched_ignores_what_was_turned_down_and_prefers_the_seed():
    rows, scores = np.asarray([[2], [3], [0], [0]], np.int32), np.ones((4, 1), np.float32)
    retriever = retrievers.BecauseYouWatched(rows, scores)
    past = viewer_of([0, 1], strength=[-1, 1])
    assert retriever.retrieve(crowd_of(past), 10)[0].rows.tolist() == [3]
    seeded = retriever.retrieve(crowd_of(past.asking(seed=0)), 10)[0]
    assert (seeded.rows.tolist(), seeded.evidence.tolist()) == ([2], [0])
    assert len(retriever.retrieve(crowd_of(viewer_of()), 10)[0]) == 0


def test_groups_take_the_best_of_each():
    groups = Groups.by(np.asarray([1, 0, 1, -1, 1]), np.asarray([1.0, 5, 3, 9, 2]), np.ones(5, bool), 2)
    rows, which = groups.take(np.asarray([1, 0]), np.asarray([2, 7]))
    assert (rows.tolist(), which.tolist()) == ([2, 4, 1], [0, 0, 1])


def test_same_creator_brings_the_creators_videos_with_evidence(catalogue):
    creators = group(catalogue, catalogue.creator, catalogue.creators)
    found = creators.retrieve(crowd_of(viewer_of([2, 1], strength=[3, 1], age_s=[0, 0])), 4)[0]
    assert found.rows.tolist() == [7, 2, 0, 3]  # a: 3/1, 3/2, 3/3; b: 1/1
    assert found.evidence.tolist() == [2, 2, 2, 1]


def test_topics_of_the_past_else_those_chosen_at_sign_up(catalogue):
    named = {name: code for code, name in enumerate(catalogue.categories)}
    topics = group(catalogue, catalogue.category, catalogue.categories, named=named)
    watched, chose, stranger = topics.retrieve(
        crowd_of(viewer_of([5]), viewer_of(topics=("dogs", "unheard", "news")), viewer_of()), 10
    )
    assert (watched.rows.tolist(), watched.evidence.tolist()) == ([5], [5])
    assert (chose.rows.tolist(), set(chose.evidence.tolist())) == ([3, 5, 1], {-1})
    assert len(stranger) == 0


def test_unknown_categories_and_creators_lead_nowhere(catalogue):
    creators = group(catalogue, catalogue.creator, catalogue.creators)
    assert len(creators.retrieve(crowd_of(viewer_of([6])), 10)[0]) == 0


def test_new_releases_are_the_latest_active_uploads_before_now():
    catalogue = catalogue_of(
        6, age_days=[40, 3, 2, 1, 0.5, -1], status=["active"] * 3 + ["blocked"] + ["active"] * 2
    )
    found = retrievers.NewReleases(catalogue).retrieve(crowd_of(viewer_of()), 10)[0]
    assert found.rows.tolist() == [4, 2, 1]
    assert retrievers.NewReleases(catalogue).retrieve(crowd_of(viewer_of()), 1)[0].rows.tolist() == [4]


def test_trending_follows_the_region(catalogue):
    counts = np.zeros((2, 8), np.float32)
    counts[0, [1, 2]] = [5, 3]
    counts[1, 4] = 1
    trending = Trending(catalogue, Popularity(counts, ("SE",), NOW), LiveCounts())
    everywhere, sweden, unheard = retrievers.TrendingNow(trending).retrieve(
        crowd_of(viewer_of(), viewer_of(region="SE"), viewer_of(region="??")), 10
    )
    assert everywhere.rows.tolist() == unheard.rows.tolist() == [1, 2]
    assert sweden.rows.tolist() == [4]


def test_search_intent_needs_a_query(catalogue):
    search = retrievers.SearchIntent(TextIndex.of(catalogue))
    asked, silent = search.retrieve(crowd_of(viewer_of(query="news"), viewer_of()), 10)
    assert asked.rows.tolist() == [5]
    assert len(silent) == 0
