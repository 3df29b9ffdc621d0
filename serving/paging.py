"""The next page of a feed: a cursor carries what was shown, so that nothing comes twice.

A cursor is a signed token. It holds a mark of 24 bits for each video shown on the pages before, and the page
behind it is ranked anew without those videos. So the server remembers nothing of a page: any process can
answer, after a restart or with another release too, and there is nothing to erase
(docs/adr/0013-the-api.md).
"""

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from time import time
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from upnext.errors import InvalidRequest

MOST = 1_000
"""Videos that the pages of one feed show; as many as the funnel ranks."""
TTL_S = 6 * 3_600
"""Seconds for which a cursor goes on."""
LONGEST = 4_096 + 64
"""Characters of a cursor at most."""
MARK_BITS = 24
_HEAD = struct.Struct(">BI8s")
_VERSION, _SIGNED = 1, 16

Marks = NDArray[np.uint32]
NO_MARKS: Marks = np.empty(0, np.uint32)


def marks_of(video_ids: Sequence[str]) -> Marks:
    """uint32[n], 24 bits each. Of a million videos some 60 share a mark with one of a thousand shown."""
    found = (crc32(video_id.encode()) >> (32 - MARK_BITS) for video_id in video_ids)
    return np.fromiter(found, np.uint32, len(video_ids))


@dataclass(frozen=True)
class Page:
    """Which page of a feed is asked for: what it must leave out, and the seed of its draws."""

    exclude: Sequence[str] = ()
    """Video ids."""
    shown: Marks = field(default_factory=lambda: NO_MARKS)
    """Of the pages before."""
    seed: int | None = None
    """A page asked for again draws the same; None: a new draw."""


FIRST = Page()


@dataclass(frozen=True)
class MarkIndex:
    """Finds a release's rows by their marks. marks uint32[n] sorted; rows int32[n] beside them."""

    marks: Marks
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, video_ids: Sequence[str]) -> "MarkIndex":
        marks = marks_of(video_ids)
        order = np.argsort(marks, kind="stable").astype(np.int32)
        return cls(marks[order], order)

    def with_added(self, video_ids: Sequence[str], first: int) -> "MarkIndex":
        """The same with more rows, from row ``first`` on."""
        late = MarkIndex.of(video_ids)
        at = np.searchsorted(self.marks, late.marks, "right")
        return MarkIndex(np.insert(self.marks, at, late.marks), np.insert(self.rows, at, late.rows + first))

    def find(self, marks: Marks) -> NDArray[np.int32]:
        """int32[≥ m]: all rows that have one of the marks."""
        first, last = (np.searchsorted(self.marks, marks, side) for side in ("left", "right"))
        sizes = last - first
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found: NDArray[np.int32] = self.rows[np.repeat(first, sizes) + within]
        return found


@dataclass(frozen=True)
class Pager:
    """Writes and reads cursors under one key. ``now``: seconds since 1970."""

    key: bytes
    now: Callable[[], float] = time

    def read(self, cursor: str, of: Sequence[str | None]) -> Page:
        """The page that a cursor leads to; ``of`` names the feed, as when the cursor was written.

        InvalidRequest for a cursor that was changed, is too old, or belongs to another feed.
        """
        token = self._verified(cursor)
        version, until, feed = _HEAD.unpack_from(token)
        if version != _VERSION or until < self.now():
            raise InvalidRequest("cursor has expired: ask for the first page again, without a cursor")
        if feed != _name(of):
            raise InvalidRequest(
                "cursor belongs to another feed: repeat user_id, session_id, region and what the feed is "
                "about as they were on the first page"
            )
        packed = np.frombuffer(token, np.uint8, offset=_HEAD.size).reshape(-1, 3).astype(np.uint32)
        shown: Marks = (packed[:, 0] << 16 | packed[:, 1] << 8 | packed[:, 2]).astype(np.uint32)
        return Page(shown=shown, seed=crc32(token))

    def write(self, page: Page, video_ids: Sequence[str], of: Sequence[str | None]) -> str | None:
        """The cursor behind a page that showed these videos; None where the feed has shown ``MOST``."""
        shown = np.concatenate([page.shown, marks_of(video_ids)])
        if len(shown) >= MOST:
            return None
        head = _HEAD.pack(_VERSION, int(self.now()) + TTL_S, _name(of))
        token = head + shown.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
        return urlsafe_b64encode(self._signature(token) + token).rstrip(b"=").decode()

    def _verified(self, cursor: str) -> bytes:
        try:
            both = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        except (NotBase64, ValueError):
            both = b""
        signature, token = both[:_SIGNED], both[_SIGNED:]
        whole = len(token) >= _HEAD.size and (len(token) - _HEAD.size) % 3 == 0
        if not whole or not hmac.compare_digest(signature, self._signature(token)):
            raise InvalidRequest("cursor is none that this service gave: send next_cursor as it came")
        return token

    def _signature(self, token: bytes) -> bytes:
        return hmac.digest(self.key, token, "sha256")[:_SIGNED]


def _name(of: Sequence[str | None]) -> bytes:
    return sha256("\x00".join(part or "" for part in of).encode()).digest()[:8]
