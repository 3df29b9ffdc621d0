"""What reasons say, by language: one JSON file each beside this module, ``{what}`` the evidence in words."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

DEFAULT = "en"


def texts(language: str | None) -> Mapping[str, str]:
    """Texts by reason code in a language ("pt-BR" falls back to "pt"), else in English."""
    known = languages()
    wanted = (language or DEFAULT).lower()
    return _read(next((name for name in (wanted, wanted.split("-")[0]) if name in known), DEFAULT))


@cache
def languages() -> frozenset[str]:
    """Languages that there are texts in."""
    return frozenset(
        entry.name.removesuffix(".json")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".json")
    )


@cache
def _read(language: str) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads((files(__name__) / f"{language}.json").read_text(encoding="utf-8"))
    return found
