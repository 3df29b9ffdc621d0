"""What a session remembers of itself, and a viewer of the sessions before."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from upnext.world.catalogue import Videos
from upnext.world.draws import Stream, keys_at
from upnext.world.geography import TOPICS

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SessionState:
    """What a session remembers. A page is answered from one and yields the next; none is ever changed.

    session: uint64[B], its key. page: int64[B], pages seen. started_us: int64[B].
    topics: int16[B, 24], slots of each topic shown so far. creators: int32[B, *], creators shown so far, and
    watched: int32[B, *], rows of videos watched, newest last, -1 where none.
    """

    session: NDArray[np.uint64]
    page: NDArray[np.int64]
    started_us: NDArray[np.int64]
    topics: NDArray[np.int16]
    creators: NDArray[np.int32]
    watched: NDArray[np.int32]

    @classmethod
    def open(
        cls,
        seed: int,
        rows: NDArray[np.int64],
        at_us: NDArray[np.int64],
        watched: NDArray[np.int32] | None = None,
    ) -> "SessionState":
        """New sessions of viewers who remember what they ``watched`` in earlier ones, see :meth:`memory`."""
        n = len(rows)
        return cls(
            session=keys_at(seed, Stream.SESSION, rows, at_us),
            page=np.zeros(n, dtype=np.int64),
            started_us=at_us,
            topics=np.zeros((n, len(TOPICS)), dtype=np.int16),
            creators=np.full((n, 0), -1, dtype=np.int32),
            watched=np.full((n, 0), -1, dtype=np.int32) if watched is None else watched,
        )

    def take(self, which: NDArray[np.int64] | Bools) -> "SessionState":
        """The sessions that an index or a mask selects."""
        return SessionState(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def memory(self, width: int = 100) -> NDArray[np.int32]:
        """The last videos watched, to open a later session with: int32[B, width], newest last, -1 pads."""
        padded = np.pad(self.watched, ((0, 0), (width, 0)), constant_values=-1)
        order = np.argsort(padded >= 0, axis=1, kind="stable")
        return np.take_along_axis(padded, order, axis=1)[:, -width:]

    def after(self, videos: Videos, slates: NDArray[np.int32], clicked: Bools) -> "SessionState":
        """The state once a page of slots int32[B, K] (-1: empty) was shown, and some of it watched."""
        shown = slates >= 0
        topics = self.topics.copy()
        sessions = np.broadcast_to(np.arange(len(slates))[:, None], slates.shape)
        np.add.at(topics, (sessions[shown], videos.topic[slates][shown]), 1)
        creators = np.where(shown, videos.creator[slates], np.int32(-1))
        watched = np.where(clicked, slates, np.int32(-1))
        return SessionState(
            session=self.session,
            page=self.page + 1,
            started_us=self.started_us,
            topics=topics,
            creators=np.concatenate([self.creators, creators], axis=1),
            watched=np.concatenate([self.watched, watched], axis=1),
        )
