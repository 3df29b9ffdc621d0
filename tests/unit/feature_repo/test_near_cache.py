"""The near cache holds what it was given, within its bounds, as long as the store vouches for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from feature_repo import near_cache
from feature_repo.near_cache import ADMITTED, WAYS, NearCache
from models.layout import EXPIRED, FOUND, NEVER, FeatureLayout

LAYOUT = FeatureLayout.of(["first", "second", "third"], "float16")  # of 30 bytes: no multiple of eight
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Word:
    """A store's word, to be given or taken back by a test."""

    def __init__(self) -> None:
        self.given = True
        self.closed = False

    def vouches(self) -> bool:
        return self.given

    def close(self) -> None:
        self.closed = True


def made(slots: int) -> tuple[NearCache, Word]:
    cache, word = NearCache(slots, LAYOUT.size), Word()
    cache.follow(word)
    return cache, word


def values(*firsts: float, expiry: int = NEVER) -> NDArray[np.uint8]:
    return LAYOUT.pack_array(np.array([[first, -first, 7] for first in firsts], np.float32), 0, expiry)


def firsts(values: NDArray[np.uint8]) -> list[float]:
    rows = LAYOUT.unpack_array(values).rows
    assert (rows[:, 1] == -rows[:, 0]).all() and (rows[:, 2] == 7).all()
    return rows[:, 0].tolist()


def put(cache: NearCache, ids: list[str], *firsts: float) -> None:
    cache.keep(ids, values(*firsts), cache.look([]).seen)


def test_what_was_kept_is_found_and_the_rest_is_absent() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b"], 1, 2)
    near = cache.look(["b", "x", "a", "b"])
    assert near.absent.tolist() == [1]
    assert firsts(near.values[[0, 2, 3]]) == [2, 1, 2]
    assert (cache.counts["hits"], cache.counts["misses"]) == (3, 1)


def test_what_has_changed_is_forgotten_and_an_older_reading_of_it_not_kept() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b"], 1, 2)
    read_before = cache.look(["c"]).seen
    cache.forget(["a", "c", "nobody"])
    assert cache.look(["a", "b"]).absent.tolist() == [0]
    cache.keep(["c"], values(3), read_before)
    assert cache.look(["c"]).absent.tolist() == [0]


def test_nothing_is_served_or_kept_while_nobody_vouches() -> None:
    cache, word = made(4)
    put(cache, ["a"], 1)
    word.given = False
    near = cache.look(["a"])
    assert near.absent.tolist() == [0]
    cache.keep(["b"], values(2), near.seen)
    word.given = True
    assert cache.look(["a", "b"]).absent.tolist() == [1]
    cache.clear()
    assert cache.look(["a"]).absent.tolist() == [0]
    cache.close()
    assert word.closed and len(cache) == 0
    assert cache.look(["a"]).absent.tolist() == [0]


def test_what_has_expired_is_given_as_the_store_would_until_it_changes_there() -> None:
    cache, _ = made(4)
    cache.keep(["a"], values(1, expiry=10), cache.look([]).seen)
    near = cache.look(["a"])
    assert near.absent.tolist() == []
    assert LAYOUT.unpack_array(near.values, now=9).lack.tolist() == [FOUND]
    assert LAYOUT.unpack_array(near.values, now=10).lack.tolist() == [EXPIRED]
    cache.forget(["a"])
    near = cache.look(["a"])
    assert near.absent.tolist() == [0]
    cache.keep(["a"], values(2, expiry=20), near.seen)
    assert firsts(cache.look(["a"]).values) == [2]


def test_what_was_used_last_stays() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b", "c", "d"], 1, 2, 3, 4)
    cache.look(["a", "c"])
    put(cache, ["e", "f"], 5, 6)
    assert cache.look(["a", "b", "c", "d", "e", "f"]).absent.tolist() == [1, 3]
    assert cache.counts["evicted"] == 2


def test_what_was_forgotten_makes_room_before_anything_is_evicted() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b", "c", "d"], 1, 2, 3, 4)
    cache.forget(["d"])
    put(cache, ["e", "e"], 5, 5)
    assert cache.look(["a", "b", "c", "d", "e"]).absent.tolist() == [3]
    assert cache.counts["evicted"] == 0


def test_more_than_it_holds_at_once() -> None:
    cache, _ = made(3)
    ids = [f"v{n}" for n in range(10)]
    put(cache, ids, *range(10))
    assert len(cache) == 3
    found = cache.look(ids)
    assert found.absent.tolist() == list(range(3, 10)) and firsts(found.values[:3]) == [0, 1, 2]


def test_many_sets_hold_what_falls_into_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_cache, "ADMITTED", 1)
    cache, _ = made(64 * WAYS)
    ids = [f"v{n}" for n in range(2_000)]
    for start in range(0, 2_000, WAYS):
        put(cache, ids[start : start + WAYS], *range(start, start + WAYS))
    near = cache.look(ids)
    here = np.setdiff1d(np.arange(2_000), near.absent)
    assert (
        len(here) == len(cache) == 64 * WAYS
    )  # a set of 64 that fewer than eight of 2,000 fall into is rare
    assert firsts(near.values[here]) == here.tolist()
    assert cache.counts["evicted"] == 2_000 - 64 * WAYS


def test_a_full_one_takes_in_what_one_in_some_requests_missed_and_all_once_there_is_room() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b", "c", "d"], 1, 2, 3, 4)
    put(cache, ["e", "f", "g"], 5, 6, 7)  # here it turns out to be full
    for number in range(2 * ADMITTED):
        put(cache, [f"v{number}"], number)
    assert cache.counts["evicted"] == 3 + 2
    cache.clear()
    for number in range(ADMITTED):
        put(cache, [f"w{number}"], number)
    assert cache.look([f"w{number}" for number in range(ADMITTED)]).absent.tolist() == []


def test_ids_of_one_tag_take_turns_and_leave_nothing_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_cache, "_tags", lambda ids: np.full(len(ids), 5, np.uint64))
    cache, _ = made(4)
    put(cache, ["a", "b"], 1, 2)
    put(cache, ["b"], 3)
    assert len(cache) == 1
    cache.forget(["b"])
    assert cache.look(["a", "b"]).absent.tolist() == [0, 1]


def test_its_bounds_are_in_megabytes() -> None:
    assert NearCache.of(8, 424).slots == 8_000_000 // (424 + 16) // WAYS * WAYS
    assert NearCache.of(1, 1_000_000).slots == 1


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(
            st.sampled_from(["read", "change", "clear"]), st.lists(st.sampled_from(LETTERS), max_size=8)
        ),
        max_size=40,
    ),
)
def test_it_never_gives_anything_but_what_the_store_holds(
    slots: int, steps: list[tuple[str, list[str]]]
) -> None:
    cache, _ = made(slots)
    store = dict.fromkeys(LETTERS, 0.0)
    for what, ids in steps:
        if what == "change":
            for id_ in ids:
                store[id_] += 1
            cache.forget(ids)
        elif what == "clear":
            cache.clear()
        else:
            near = cache.look(ids)
            asked = [ids[place] for place in near.absent]
            if asked:
                read = values(*(store[id_] for id_ in asked))
                near.values[near.absent] = read
                cache.keep(asked, read, near.seen)
            assert firsts(near.values) == [store[id_] for id_ in ids]
        assert len(cache) <= slots
