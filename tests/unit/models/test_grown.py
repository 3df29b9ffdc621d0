"""Tables grown by late videos are those that the whole catalogue would have: the whole is the oracle."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.crosses import Crosses, Viewers
from models.grown import GrownCatalogue, GrownCrosses
from models.history import Histories
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.stacked import Stacked
from upnext.contracts import VIDEOS

NAMES = [None, "a", "b", "c", "z"]


def videos(rng: np.random.Generator, first: int, count: int) -> Catalogue:
    """Videos with the upload times first to first + count - 1 µs."""
    rows = [
        {
            "video_id": f"v{number:03}",
            "title": f"Clip {number}",
            "category": rng.choice(NAMES),
            "creator_id": rng.choice(NAMES),
            "language": rng.choice(NAMES),
            "duration_ms": int(rng.integers(1, 9)) * 10_000 if rng.random() < 0.8 else None,
            "uploaded_at": number + 1,
            "status": rng.choice(["active", "blocked"]),
        }
        for number in range(first, first + count)
    ]
    return Catalogue.of(pa.Table.from_pylist(rows, schema=VIDEOS))


def both(seed: int, known: int = 7, late: int = 4) -> tuple[GrownCatalogue, Catalogue]:
    rng = np.random.default_rng(seed)
    base, more = videos(rng, 0, known), videos(rng, known, late)
    whole = Catalogue.of(pa.concat_tables([base.table, more.table]))
    return GrownCatalogue.joining(base, more), whole


@given(st.integers(0, 1_000))
def test_a_grown_catalogue_is_the_whole_one(seed: int) -> None:
    grown, whole = both(seed)
    rows = np.random.default_rng(seed).integers(0, len(whole), 20)
    for name in ("ids", "duration_s", "uploaded_at", "active"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name))
    for code, names in (("creator", "creators"), ("category", "categories")):
        codes, told = getattr(grown, code), np.array([*getattr(grown, names), None])
        expected = np.array([*getattr(whole, names), None])[getattr(whole, code)]
        assert told[codes].tolist() == expected.tolist()
        known = getattr(grown.base, names)
        assert getattr(grown, names)[: len(known)] == known
    ids = ["v010", "nobody", "v000", "v007"]
    for asked in (ids, pa.array(ids)):
        assert grown.rows(asked).tolist() == whole.rows(asked).tolist() == [10, -1, 0, 7]
    assert grown.named(rows).tolist() == whole.named(rows).tolist()
    assert grown.documents(rows, VIDEOS.names) == whole.documents(rows, VIDEOS.names)
    assert grown.digest == whole.digest and len(grown) == 11
    assert [(part.start, part.stop) for part in grown.parts] == [(0, 7), (7, 11)]


@settings(deadline=None)
@given(st.integers(0, 1_000))
def test_grown_crosses_are_those_of_the_whole_with_nothing_known_of_the_late(seed: int) -> None:
    grown, whole = both(seed)
    rng = np.random.default_rng(seed)
    n, m = len(grown.base), len(grown.late)
    als, towers, looks = (rng.normal(size=(n + m, 3)).astype(np.float32) for _ in range(3))
    als[n:], looks[n:] = 0, 0
    counts = rng.gamma(1, 5, (3, n)).astype(np.float32)
    near = Neighbours(rng.integers(-1, n, (n, 3), np.int32), rng.random((n, 3), np.float32))
    near.scores[near.rows < 0] = 0
    base = Crosses(grown.base, als[:n], towers[:n], Popularity(counts, ("NO", "SE"), 0), near, looks[:n])
    crosses = GrownCrosses.joining(base, grown, towers[n:])
    past = Histories.empty(2, 5)
    past.rows[:, :4] = rng.integers(0, n + m, (2, 4))
    past.strength[:, :4] = rng.normal(1, 1, (2, 4))
    past.age_s[:, :4] = rng.gamma(1, 1e5, (2, 4))
    viewers = Viewers(
        past,
        *rng.normal(size=(2, 2, 3)).astype(np.float32),
        np.full(2, 10**12),
        np.array([0, 2], np.int32),
        crosses.language_codes(["a", "z"]),
    )
    candidates = rng.integers(0, n + m, (2, 30)).astype(np.int32)
    found = crosses.features(viewers, candidates)
    of_whole = _whole(whole, als, towers, looks, counts, near)
    viewers = Viewers(**{**vars(viewers), "language": of_whole.language_codes(["a", "z"])})
    expected = of_whole.features(viewers, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _whole(whole, als, towers, looks, counts, near):  # type: ignore[no-untyped-def]
    """Crosses of the whole, with the mean counts of the release, and without neighbours of the late."""
    late = ((0, len(whole) - len(near.rows)), (0, 0))
    near = Neighbours(np.pad(near.rows, late, constant_values=-1), np.pad(near.scores, late))
    padded = np.pad(counts, ((0, 0), (0, len(whole) - counts.shape[1])))
    made = Crosses(whole, als, towers, Popularity(padded, ("NO", "SE"), 0), near, looks)
    vars(made)["_mean_counts"] = counts.mean(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_rows_of_two_matrices_are_those_of_one(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(10, 4))
    stacked = Stacked(whole[:6], whole[6:])
    assert stacked.shape == (10, 4) and len(stacked) == 10
    for rows in (rng.integers(0, 10, shape), rng.integers(0, 6, shape), rng.integers(6, 10, shape)):
        np.testing.assert_array_equal(stacked[rows], whole[rows])
