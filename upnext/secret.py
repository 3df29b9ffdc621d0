"""The installation's secret: what cursors are signed with and pseudonyms are made with."""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from upnext.errors import ConfigError
from upnext.settings import Settings
from upnext.stores.local import os_errors, prepare_folder

LEAST = 16
"""Characters of a secret at least."""


def derived(settings: Settings, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose: HMAC-SHA256 of the purpose under the secret."""
    return hmac.digest(_secret(settings), purpose.encode(), "sha256")


def _secret(settings: Settings) -> bytes:
    """The secret of the settings, else of the file below ``home``, which the first to ask makes."""
    given = settings.secret.get_secret_value()
    if given:
        if len(given) < LEAST:
            raise ConfigError(f"UPNEXT_SECRET has {len(given)} characters: use {LEAST} random ones or more")
        return given.encode()
    path = settings.home / "secret"
    with os_errors(path):
        if not path.exists():
            _make(path)
        held = path.read_bytes()
    if len(held) < LEAST:
        raise ConfigError(f"{path} holds {len(held)} bytes: remove it, and a new one is made")
    return held


def _make(path: Path) -> None:
    """Write a random secret that only this user can read; whoever comes second keeps the first one's."""
    handle, new = tempfile.mkstemp(dir=prepare_folder(path.parent), prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        Path(new).unlink()
