"""Reading the URLs of outside systems."""

import re
from pathlib import Path

from upnext.errors import ConfigError

_SCHEME = re.compile(r"^([^:/]+)://")  # whatever it is: an odd one is refused, never taken for a folder
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):\S*@")  # rather too much than half of a password


def scheme(url: str) -> str:
    """What stands before ``://``, without a driver (``postgresql+psycopg``); empty for a plain folder."""
    found = _SCHEME.match(url)
    return found[1].lower().split("+")[0] if found else ""


def masked(url: str) -> str:
    """The URL with ``***`` in place of a password, fit for messages and logs."""
    return _PASSWORD.sub(r"\1:***@", url)


def local_path(url: str) -> Path | None:
    """The file or folder that a URL of the local profile names; None for one of another machine.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``lmdb://folder``, ``file:///folder`` or a folder.
    """
    kind = scheme(url)
    if kind not in {"", "file", "sqlite", "lmdb"}:
        return None
    rest = _SCHEME.sub("", url, count=1)
    if kind == "sqlite":
        rest = rest.removeprefix("/")
    if not rest or rest == ":memory:":
        raise ConfigError(f"{url!r} names no file: write {kind or 'file'}:///folder/name")
    return Path(rest)
