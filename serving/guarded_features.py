"""The online store behind its circuit breaker: below the near cache, whose hits say nothing of the store."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from serving.breakers import Breaker
from upnext.abilities import Follows, Joins
from upnext.ports import OnlineFeatures


class GuardedFeatures:
    """A store of online features whose reads go through a breaker; all else goes straight to it."""

    def __init__(self, store: OnlineFeatures, breaker: Breaker, within_s: Callable[[], float]) -> None:
        self._store, self._breaker, self._within_s = store, breaker, within_s
        if isinstance(store, Joins):  # what the store can do, this can
            self.get_joined = self._get_joined
        if isinstance(store, Follows):
            self.follow, self.asking = store.follow, self._asking

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        return self._breaker.call(lambda: self._store.get(view, ids), self._within_s())

    def views(self) -> list[str]:
        return self._breaker.call(self._store.views, self._within_s())

    def _get_joined(self, view: str, ids: Sequence[str], absent: bytes) -> bytes:
        joins = cast(Joins, self._store)
        return self._breaker.call(lambda: joins.get_joined(view, ids, absent), self._within_s())

    @contextmanager
    def _asking(self, view: str, ids: Sequence[str]) -> Iterator[Callable[[], list[bytes | None]]]:
        follows = cast(Follows, self._store)
        with self._breaker.calling(self._within_s()), follows.asking(view, ids) as answer:
            yield answer
