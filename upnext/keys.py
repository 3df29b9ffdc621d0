"""Keys to the service: made, kept and checked.

A key reads ``upnext_<id>_<secret>``. The secret is 256 random bits, so there is nothing to guess from a
dictionary, and one salted SHA-256 keeps it as safe as a slow hash such as scrypt would, which exists to make
guessing short human passwords expensive. The id is public: it finds the row, names the key in commands and
counts its requests; the row holds salt and digest, from which the key cannot be had back. Checking costs
microseconds, and as long for a key that does not exist as for one that does.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from upnext.ports import StoredKey

FORM = re.compile(r"upnext_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = StoredKey("", "", (), bytes(16), bytes(32), datetime.min)


class Scope(StrEnum):
    """What a key may do. None contains another: give a key each that it needs."""

    READ = "read"
    """Ask for recommendations, search, read videos and users."""
    WRITE = "write"
    """Send events, write videos and users."""
    ADMIN = "admin"
    """Erase people, read the figures about the service."""


def create(name: str, scopes: Sequence[Scope], at: datetime) -> tuple[str, StoredKey]:
    """A new key, to be shown once, and what is kept of it."""
    key_id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
    kept = StoredKey(key_id, name, tuple(sorted(set(scopes))), salt, _digest(salt, secret), at)
    return f"upnext_{key_id}_{secret}", kept


def find(presented: str, keys: dict[str, StoredKey]) -> StoredKey | None:
    """The valid key that was presented; ``keys`` by id. None for any other text."""
    form = FORM.fullmatch(presented)
    key_id, secret = form.groups() if form else ("", "")
    kept = keys.get(key_id, _NOBODY)
    right = hmac.compare_digest(_digest(kept.salt, secret), kept.digest)
    return kept if right and kept.revoked_at is None else None


def _digest(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()
