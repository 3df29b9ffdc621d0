"""Releases that answer beside the champion, for the experiments that name one."""

from collections.abc import Callable, Iterable
from pathlib import Path

from models.bundle import Bundle
from serving.growth import Growth
from serving.loaded import Loaded, Registry
from upnext.errors import ReleaseError


class Beside:
    """Loads a release when it is first asked for, and again when its alias has moved on."""

    def __init__(self, registry: Registry, prepare: Callable[[Bundle, str], Growth]) -> None:
        self._registry, self._prepare = registry, prepare
        self._held: dict[str, Growth] = {}

    def load(self, ref: str) -> Loaded:
        """The release that a version, alias or folder names, with the videos that came after it.

        UpnextError when it can't be used.
        """
        version = None if Path(ref).is_dir() else self._registry.version(ref)
        held = self._held.get(ref)
        if held is not None and version in (None, held.base.version):
            return held.now()
        found = self._registry.resolve(ref)
        try:
            loaded = self._prepare(Bundle.load(found.path), found.version)
        except (OSError, ValueError) as error:
            raise ReleaseError(f"release {ref!r} can't be loaded: {error}") from error
        self._let_go(ref)
        self._held[ref] = loaded
        return loaded.now()

    def keep(self, refs: Iterable[str]) -> None:
        """Let go of the releases that are not among these."""
        for ref in self._held.keys() - set(refs):
            self._let_go(ref)

    def _let_go(self, ref: str) -> None:
        held = self._held.pop(ref, None)
        if held is not None:
            held.base.features.close()
