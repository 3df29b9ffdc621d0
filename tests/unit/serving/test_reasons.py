"""Reasons are true: the evidence is in the viewer's data, and without it another reason is given."""

import numpy as np
import pytest

from models.als import AlsConfig, AlsModel
from serving.candidates import Candidates, union
from serving.postrank import Slate
from serving.reasons import Evidence, explain
from serving.texts import languages, texts
from tests.support.videos import DAY_US, NOW, catalogue_of, viewer_of

CATALOGUE = catalogue_of(
    6,
    title=["Cats", "Dogs", None, "Birds", "Fish", "Ants"],
    creator_id=["ann", "bob", "ann", "bob", "eve", "eve"],
    category=["pets", "pets", "wild", "wild", "pets", "wild"],
)
VECTORS = np.asarray([[1, 0], [0, 1], [2, 0.1], [0.1, 3], [-1, -1], [0, 0]], np.float32)
ALS = AlsModel(VECTORS, np.full(6, 10, np.float32), 1.0, AlsConfig(factors=2))
EVIDENCE = Evidence(ALS, VECTORS)


def found(*rows, evidence=-1):
    return Candidates.of(np.asarray(rows, np.int32), np.ones(len(rows), np.float32), evidence)


def reasons(viewer, explored=(), **sources):
    pool = union(sources, {}, 10)
    slate = Slate.of(pool.rows, pool.fused)
    slate.explored[list(explored)] = True
    given = explain(slate, pool, viewer, CATALOGUE, EVIDENCE)
    return dict(zip(slate.rows.tolist(), given, strict=True))


def test_a_neighbour_names_the_video_that_led_to_it():
    reason = reasons(viewer_of([0]), because_you_watched=found(4, evidence=0))[4]
    assert (reason.code, reason.text, reason.because_of) == (
        "because_you_watched",
        "Because you watched Cats",
        "v000",
    )


@pytest.mark.parametrize("source", ["als", "two_tower"])
def test_a_model_names_the_video_of_the_past_that_speaks_most_for_it(source):
    viewer = viewer_of([1, 0], strength=[1, 1])
    assert reasons(viewer, **{source: found(2)})[2].because_of == "v000"
    assert reasons(viewer, **{source: found(3)})[3].because_of == "v001"
    without = reasons(viewer_of([1]), **{source: found(4)})[4]
    assert (without.code, without.because_of) == ("for_you", None)


def test_what_was_turned_down_is_no_evidence():
    viewer = viewer_of([0, 1], strength=[-1, 0.5])
    assert reasons(viewer, als=found(3))[3].because_of == "v001"
    assert reasons(viewer_of([0], strength=[-1]), als=found(2))[2].code == "start_here"


def test_creators_topics_search_and_region():
    assert reasons(viewer_of([0]), creators=found(2, evidence=0))[2].text == "From ann, whom you watch"
    assert reasons(viewer_of([0]), topics=found(4, evidence=0))[4].text == "More pets, which you watch"
    assert reasons(viewer_of(), topics=found(4))[4].text == "From your topics: pets"
    searched = reasons(viewer_of(query="ants"), search=found(5))[5]
    assert (searched.code, searched.because_of) == ("search", "ants")
    assert reasons(viewer_of(region="SE"), trending=found(1))[1].text == "Popular in SE"
    assert reasons(viewer_of(), trending=found(1))[1].text == "Trending now"
    assert reasons(viewer_of(), new=found(1))[1].code == "new"
    assert reasons(viewer_of(), popular=found(1))[1].code == "popular"


def test_a_personal_reason_beats_a_general_one_of_like_rank():
    given = reasons(viewer_of([0]), trending=found(4), because_you_watched=found(1, 4, evidence=0))
    assert given[4].code == "because_you_watched"


def test_related_names_the_video_being_watched():
    reason = reasons(viewer_of([1], seed=0), creators=found(2, evidence=0))[2]
    assert (reason.code, reason.text, reason.because_of) == ("related", "More like Cats", "v000")


def test_an_explored_video_says_so():
    assert reasons(viewer_of([0]), [0], als=found(2))[2].code == "explore"


def test_a_video_without_a_title_is_named_by_its_id():
    assert reasons(viewer_of([2]), because_you_watched=found(1, evidence=2))[1].text.endswith("v002")


def test_what_als_gives_as_evidence_adds_most_to_the_score():
    rng = np.random.default_rng(0)
    als = AlsModel(
        rng.normal(size=(40, 8)).astype(np.float32), np.full(40, 10, np.float32), 2.0, AlsConfig(factors=8)
    )
    viewer = viewer_of(range(12), strength=rng.uniform(0.1, 1, 12))
    rows = np.arange(12, 40, dtype=np.int32)
    added = als.contributions(viewer.past, rows)
    score = als.factors[rows] @ als.fold_in(viewer.past)[0]
    assert added.sum(axis=1) == pytest.approx(score, abs=1e-4)
    named = Evidence(als, als.factors).of_als(rows, viewer)
    for at, row in enumerate(rows):
        best = added[at].argmax()
        assert named[at] == (viewer.past.rows[0, best] if added[at, best] > 0 else -1), row


def test_a_new_video_of_a_creator_one_watches_is_called_new():
    fresh = catalogue_of(2, age_days=[30, 1], creator_id=["ann", "ann"], title=["Old", "New"])
    assert fresh.uploaded_at[1] == NOW - DAY_US
    pool = union({"creators": found(1, evidence=0)}, {}, 10)
    slate = Slate.of(pool.rows, pool.fused)
    reason = explain(slate, pool, viewer_of([0]), fresh, EVIDENCE)[0]
    assert (reason.code, reason.text) == ("new_from_creator", "New from ann, whom you watch")


def test_reasons_are_given_in_the_viewers_language():
    given = [
        reasons(viewer_of([0], language=language), because_you_watched=found(4, evidence=0))[4].text
        for language in ("de", "es-MX", "tlh", None)
    ]
    english = "Because you watched Cats"
    assert given == ["Weil du Cats gesehen hast", "Porque viste Cats", english, english]


@pytest.mark.parametrize("language", sorted(languages()))
def test_every_language_has_every_text_with_the_same_evidence(language):
    for code, text in texts("en").items():
        assert ("{what}" in texts(language)[code]) == ("{what}" in text), code
    assert set(texts(language)) == set(texts("en"))


def test_an_empty_slate_needs_no_reasons():
    assert reasons(viewer_of()) == {}
