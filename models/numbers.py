"""Numbers by name that live in a release as JSON, and that an operator may change one by one."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Self

from upnext.errors import ConfigError, CorruptData


@dataclass(frozen=True)
class Numbers:
    """A dataclass of finite numbers, to a file and back; ConfigError for one that is none."""

    OF: ClassVar[str] = ""
    """What the numbers belong to, in words of an error."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise ConfigError(f"weight {entry.name}{self.OF} is {value!r}: give a finite number")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Numbers by name; those not given keep their defaults. ConfigError for an unknown name."""
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"no weight is called {', '.join(unknown)}: there are {', '.join(known)}")
        return cls(**given)

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        path.write_text(json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; CorruptData when it is not JSON."""
        try:
            given = json.loads(path.read_text())
        except ValueError as error:
            raise CorruptData(f"{path} can't be read: {error}") from error
        if not isinstance(given, dict):
            raise CorruptData(f"{path} holds {type(given).__name__}, not weights by name")
        return cls.from_dict(given)
