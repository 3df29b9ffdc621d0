"""Ids of events that came without one."""

from os import urandom
from time import time_ns
from uuid import UUID

_RANDOM_BITS = 74
_MARKS = 0x7 << 76 | 0b10 << 62
"""Version 7 and the variant of RFC 9562."""


def new_event_id() -> str:
    """A UUID of version 7 (RFC 9562): later ones sort behind, so that an index over them grows at its end."""
    random = int.from_bytes(urandom(10)) >> 80 - _RANDOM_BITS
    high, low = random >> 62, random & (1 << 62) - 1
    return str(UUID(int=time_ns() // 1_000_000 << 80 | high << 64 | low | _MARKS))
