"""What a serving process looks at again and again: which release is named, and an operator's parameters."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models.bundle import Bundle
from serving.loaded import Registry
from serving.rules import FunnelConfig
from upnext.errors import UpnextError

log = logging.getLogger(__name__)


@dataclass
class Watcher:
    """Loads the release that ``ref`` names, and any that takes its place."""

    registry: Registry
    ref: str
    use: Callable[[Bundle, str], None]
    on_outcome: Callable[[str], None] = lambda outcome: None
    serving: str = ""
    failing: str = ""
    """Why the last attempt failed; empty while all is well."""

    def look(self) -> None:
        """One look at the registry; a release that cannot be used is left alone and the old one serves on."""
        try:
            named = self.registry.version(self.ref) if not Path(self.ref).is_dir() else self.ref
            if named is not None and named == self.serving:
                return
            release = self.registry.resolve(self.ref)
            if release.version == self.serving:
                return
            self.use(Bundle.load(release.path), release.version)
        except Exception as error:  # whatever is wrong with it, the one that serves goes on
            why = str(error) or repr(error)
            if why != self.failing:
                log.warning("release %r is not used: %s", self.ref, why)
                self.on_outcome("refused")
            self.failing = why
        else:
            self.serving, self.failing = release.version, ""
            self.on_outcome("swapped")
            log.info("serving release %s", release.version)


@dataclass
class ConfigWatcher:
    """Reads an operator's file of parameters whenever it changes; what is wrong in it leaves the old ones."""

    path: Path
    use: Callable[[FunnelConfig], None]
    default: FunnelConfig = field(default_factory=FunnelConfig)
    failing: str = ""
    """Why the file as it stands is not in use; empty while all is well."""
    seen: tuple[int, int] | None = None

    def look(self) -> None:
        found = self.path.stat() if self.path.is_file() else None
        stamp = (found.st_mtime_ns, found.st_size) if found else None
        if stamp == self.seen:
            return
        try:
            self.use(FunnelConfig.load(self.path) if found else self.default)
        except UpnextError as error:
            self.failing = str(error)
            log.warning("%s is not used: %s", self.path, error)
        else:
            self.failing = ""
            log.info("parameters are those of %s", self.path if found else "the defaults")
        self.seen = stamp
