"""What viewers were after, as of any times of a log: their last searches, while these are fresh."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.context import QUERY_FRESH_S
from feature_repo.stream_log import Timeline
from models.columns import codes, micros
from models.hashing import TAG_WIDTH, hashed_texts
from models.history import SECOND


@dataclass(frozen=True)
class Searches:
    """Searches by viewer and time. query: int64[m], codes into ``vectors``, float32[q, TAG_WIDTH]."""

    rows: Timeline
    query: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, events: pa.Table, users: pa.Array) -> "Searches":
        """From columns user_id, timestamp and query of searches; users that are not listed are left out."""
        user, ts = codes(events["user_id"], users).astype(np.int64), micros(events["timestamp"])
        encoded = events["query"].combine_chunks().fill_null("").dictionary_encode()
        query = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
        order = np.lexsort((query, ts, user))
        order = order[user[order] >= 0]
        vectors = hashed_texts(encoded.dictionary.to_pylist())
        return cls(Timeline.of(user[order], ts[order]), query[order], vectors)

    def latest(
        self, user: NDArray[np.integer], ts: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Of k viewers, each strictly before a time (µs): the age of the last search and its hashed words.

        float64[k] in seconds, nan where there is none that is fresh, and float32[k, TAG_WIDTH], zeros there.
        """
        age, vectors = np.full(len(ts), np.nan), np.zeros((len(ts), TAG_WIDTH), np.float32)
        if len(self.query):
            who = np.asarray(user, np.int64)
            newest = self.rows.before(who, ts) - 1
            since = (ts - self.rows.ts[newest]) / SECOND
            fresh = (newest >= 0) & (self.rows.entity[newest] == who) & (since <= QUERY_FRESH_S)
            age[fresh] = since[fresh]
            vectors[fresh] = self.vectors[self.query[newest[fresh]]]
        return age, vectors
