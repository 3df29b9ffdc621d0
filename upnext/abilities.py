"""What a store of online features may be able to do beyond its port; callers ask whether it can."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Joins(Protocol):
    """A store of online features that can hand over many values with fewer copies."""

    def get_joined(self, view: str, ids: Sequence[str], absent: bytes) -> bytes:
        """What ``get`` gives, one value after the other; ``absent`` where there is none."""
        ...


class Following(Protocol):
    """A store's word that its changes are being told."""

    def vouches(self) -> bool:
        """Whether all that changed more than a second ago has been told."""
        ...

    def close(self) -> None: ...


class Listener(Protocol):
    """What hears of changes in one view."""

    def forget(self, ids: Sequence[str]) -> None:
        """The values of these ids have changed."""
        ...

    def clear(self) -> None:
        """Any value may have changed."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A store of online features over the network that tells what others change in it."""

    def follow(self, view: str, listener: Listener) -> Following:
        """Tell ``listener`` of each change in a view until the answer is closed."""
        ...

    def asking(
        self, view: str, ids: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[bytes | None]]]:
        """Send for what ``get`` gives, and yield what waits for it: there is time for work in between."""
        ...
