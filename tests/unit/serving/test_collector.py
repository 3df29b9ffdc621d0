import gc
from weakref import ref

import pytest

from serving.collector import settle


class Node:
    """Part of a cycle, which only a collection can free."""

    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen():
    yield
    gc.unfreeze()


def test_what_is_alive_is_not_looked_at_again():
    kept = Node()
    settle()
    assert gc.get_freeze_count() > 10_000
    assert not any(each is kept for each in gc.get_objects())


def test_garbage_from_after_it_is_still_collected():
    settle()
    gone = ref(Node())
    gc.collect()
    assert gone() is None


def test_what_was_settled_is_collected_when_settled_again():
    node = Node()
    settle()
    gone = ref(node)
    del node
    gc.collect()
    assert gone() is not None
    settle()
    assert gone() is None
