"""The feature log in one SQLite file: a compressed value per answer.

A value is an Arrow stream, compressed as a whole and not buffer by buffer, so that the blocks of viewer and
moment, which repeat in each row, cost next to nothing (docs/adr/0009-logged-features.md has sizes).
"""

from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import LOGGED_FEATURES
from upnext.errors import CorruptData
from upnext.ports import FeatureBatch
from upnext.stores.sqlite_log import SqliteLog, sequence
from upnext.stores.tables import conform
from upnext.times import microseconds

_CODEC = "zstd"
_INSERT = "INSERT OR IGNORE INTO answers (request_id, user_id, timestamp, bytes, rows) VALUES (?, ?, ?, ?, ?)"
_READ = "SELECT seq, bytes, rows FROM answers WHERE seq > ? ORDER BY seq LIMIT ?"


class SqliteFeatureLog(SqliteLog):
    """One row per answer, so that a request is written once and a viewer is forgotten by an index."""

    table: ClassVar[str] = "answers"
    schema: ClassVar[str] = """
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    timestamp INTEGER NOT NULL,  -- microseconds since 1970, UTC
    bytes INTEGER NOT NULL,  -- before compression
    rows BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_user ON answers (user_id);
"""

    def append(self, rows: pa.Table) -> int:
        answers = [_packed(answer) for answer in _answers(conform(rows, LOGGED_FEATURES, "logged features"))]
        if not answers:
            return 0
        return self._run(lambda db: sum(db.execute(_INSERT, answer).rowcount for answer in answers))

    def read(self, after: str = "", limit: int = 1_000) -> FeatureBatch:
        found = self._rows(_READ, sequence(after), limit)
        if not found:
            return FeatureBatch(LOGGED_FEATURES.empty_table(), after)
        return FeatureBatch(pa.concat_tables(_unpacked(*answer) for answer in found), str(found[-1][0]))

    def forget(self, user_id: str) -> int:
        gone = "DELETE FROM answers WHERE user_id = ?"
        dropped = self._run(lambda db: db.execute(gone, (user_id,)).rowcount)
        self._scrub()
        return dropped


def _answers(rows: pa.Table) -> list[pa.RecordBatch]:
    """The rows of each request, which lie together."""
    if not rows.num_rows:
        return []
    whole = rows.combine_chunks().to_batches()[0]
    ends = pc.run_end_encode(whole["request_id"]).run_ends.to_pylist()
    return [whole.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]


def _packed(answer: pa.RecordBatch) -> tuple[Any, ...]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.schema) as stream:
        stream.write_batch(answer)
    raw = sink.getvalue()
    first = answer.slice(0, 1).to_pydict()
    named = (first["request_id"][0], first["user_id"][0], microseconds(first["timestamp"][0]))
    return (*named, raw.size, pa.Codec(_CODEC).compress(raw, asbytes=True))


def _unpacked(seq: int, size: int, value: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.Codec(_CODEC).decompress(value, size)) as stream:
            return conform(stream.read_all(), LOGGED_FEATURES, "logged features")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptData(
            f"answer {seq} of the feature log cannot be read: {error}; remove the file"
        ) from error
