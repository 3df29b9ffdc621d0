"""The near cache holds what it was given, within its bounds, as long as the store vouches for it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.near_cache import NearCache
from models.layout import CORRUPT, FOUND, NEVER, Unpacked


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
    cache, word = NearCache(slots, 2), Word()
    cache.follow(word)
    return cache, word


def values(*firsts: float, expiry: int = NEVER) -> Unpacked:
    rows = np.array([[first, -first] for first in firsts], np.float32)
    n = len(firsts)
    return Unpacked(rows, np.zeros(n, np.uint8), np.zeros(n, np.int64), np.full(n, expiry))


def put(cache: NearCache, ids: list[str], *firsts: float) -> None:
    cache.keep(ids, values(*firsts), cache.look([], 0).seen)


def test_what_was_kept_is_found_and_the_rest_is_absent() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b"], 1, 2)
    near = cache.look(["b", "x", "a", "b"], 0)
    assert near.absent.tolist() == [1]
    assert near.rows[[0, 2, 3]].tolist() == [[2, -2], [1, -1], [2, -2]]
    assert (cache.counts["hits"], cache.counts["misses"]) == (3, 1)


def test_what_has_changed_is_forgotten_and_an_older_reading_of_it_not_kept() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b"], 1, 2)
    read_before = cache.look(["c"], 0).seen
    cache.forget(["a", "c", "nobody"])
    assert cache.look(["a", "b"], 0).absent.tolist() == [0]
    cache.keep(["c"], values(3), read_before)
    assert cache.look(["c"], 0).absent.tolist() == [0]


def test_nothing_is_served_or_kept_while_nobody_vouches() -> None:
    cache, word = made(4)
    put(cache, ["a"], 1)
    word.given = False
    near = cache.look(["a"], 0)
    assert near.absent.tolist() == [0]
    cache.keep(["b"], values(2), near.seen)
    word.given = True
    assert cache.look(["a", "b"], 0).absent.tolist() == [1]
    cache.clear()
    assert cache.look(["a"], 0).absent.tolist() == [0]
    cache.close()
    assert word.closed and len(cache) == 0
    assert cache.look(["a"], 0).absent.tolist() == [0]


def test_what_has_expired_is_read_anew() -> None:
    cache, _ = made(4)
    cache.keep(["a"], values(1, expiry=10), cache.look([], 0).seen)
    assert cache.look(["a"], 9).absent.tolist() == []
    near = cache.look(["a"], 10)
    assert near.absent.tolist() == [0]
    cache.keep(["a"], values(2, expiry=20), near.seen)
    assert cache.look(["a"], 10).rows.tolist() == [[2, -2]]


def test_what_could_not_be_used_is_not_kept() -> None:
    cache, _ = made(4)
    read = values(1, 2)
    read.lack[:] = [CORRUPT, FOUND]
    cache.keep(["bad", "good"], read, cache.look([], 0).seen)
    assert cache.look(["bad", "good"], 0).absent.tolist() == [0]


def test_what_was_used_since_the_hand_passed_stays() -> None:
    cache, _ = made(4)
    put(cache, ["a", "b", "c", "d"], 1, 2, 3, 4)
    cache.look(["a", "c"], 0)
    put(cache, ["e", "f"], 5, 6)
    assert cache.look(["a", "b", "c", "d", "e", "f"], 0).absent.tolist() == [1, 3]
    assert cache.counts["evicted"] == 2


def test_more_than_it_holds_at_once() -> None:
    cache, _ = made(3)
    ids = [f"v{n}" for n in range(10)]
    put(cache, ids, *range(10))
    assert len(cache) == 3
    found = cache.look(ids, 0)
    assert found.rows[0].tolist() == [0, 0] and len(found.absent) == 7


def test_its_bounds_are_in_megabytes() -> None:
    assert NearCache.of(8, 200).slots == 8_000_000 // (4 * 200 + 17)
    assert NearCache.of(1, 1_000_000).slots == 1


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["read", "change", "clear"]), st.lists(st.sampled_from("abcdefghij"), max_size=8)
        ),
        max_size=40,
    ),
)
def test_it_never_gives_anything_but_what_the_store_holds(
    slots: int, steps: list[tuple[str, list[str]]]
) -> None:
    cache, _ = made(slots)
    store = dict.fromkeys("abcdefghij", 0.0)
    for what, ids in steps:
        if what == "change":
            for id_ in ids:
                store[id_] += 1
            cache.forget(ids)
        elif what == "clear":
            cache.clear()
        else:
            near = cache.look(ids, 0)
            asked = [ids[place] for place in near.absent]
            read = values(*(store[id_] for id_ in asked)) if asked else None
            if read is not None:
                near.rows[near.absent] = read.rows
                cache.keep(asked, read, near.seen)
            assert near.rows[:, 0].tolist() == [store[id_] for id_ in ids]
        assert len(cache) <= slots
