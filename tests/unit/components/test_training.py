"""What the ranker learns of the moment of each example: only what lay strictly before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.moments import Moments
from feature_repo.specs import USER_STREAM, VIDEO_STREAM
from feature_repo.stream import StreamEvent, StreamState, update, values
from models.catalogue import Catalogue
from models.dataset import Split
from models.hashing import hashed_texts
from tests.support.small_log import START, small_log
from upnext.contracts import EVENTS
from upnext.ports import Lake
from upnext.stores import Stores

KINDS = ("impression", "click", "watch", "like", "not_interested", "search")
MINUTE = 60_000_000
ZERO = int(START.timestamp()) * 1_000_000


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with small_log().write(tmp_path) as opened:
        yield opened


@dataclass
class Row:
    user: str
    video: str | None
    event: StreamEvent
    query: str | None = None


def random_events(count: int) -> list[Row]:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(count):
        kind = str(rng.choice(KINDS))
        at = ZERO + int(rng.integers(0, 150)) * MINUTE + int(rng.integers(0, 3)) * 20_000_000
        event = StreamEvent(kind, at, int(rng.integers(0, 90_000)) if kind == "watch" else 0)
        asked = str(rng.choice(["red shoes", "jazz"])) if kind == "search" else None
        video = None if kind == "search" else f"v{rng.integers(0, 4)}"
        rows.append(Row(f"u{rng.integers(0, 4)}", video, event, asked))
    return sorted(rows, key=lambda row: row.event.ts)


def written(lake: Lake, rows: list[Row]) -> None:
    lake.append(
        "events",
        pa.Table.from_pylist(
            [
                {
                    **dict.fromkeys(EVENTS.names),
                    "event_id": f"e{place}",
                    "user_id": row.user,
                    "event_type": row.event.kind,
                    "video_id": row.video,
                    "query": row.query,
                    "watch_duration_ms": row.event.watch_ms if row.event.kind == "watch" else None,
                    "timestamp": START + timedelta(microseconds=row.event.ts - ZERO),
                }
                for place, row in enumerate(rows)
            ],
            EVENTS,
        ),
    )


def test_streams_and_searches_are_those_strictly_before(stores: Stores) -> None:
    rows = random_events(150)
    written(stores.lake, rows)
    catalogue = Catalogue.of(stores.lake.read("videos"))
    users = [f"u{place}" for place in range(5)]
    split = Split(ZERO, ZERO + 60 * MINUTE, ZERO + 120 * MINUTE, ZERO + 200 * MINUTE)
    moments = Moments.of(stores.lake, catalogue, users, split.history_end, split.until)
    exactly = [row.event.ts for row in rows[::5]]
    times = np.array([*exactly, *(ts + 1 for ts in exactly), ZERO + 199 * MINUTE])

    def folded(ts: int, **who: str) -> StreamState:
        state = StreamState()
        for row in rows:
            if row.event.ts < ts and all(getattr(row, name) == wanted for name, wanted in who.items()):
                state = update(state, row.event)
        return state

    for place, user in enumerate(users):
        found = moments.users.features(np.full(len(times), place), times)
        wanted = [values(USER_STREAM, folded(ts, user=user), ts) for ts in times.tolist()]
        np.testing.assert_array_equal(found, np.stack(wanted))
        age, words = moments.searches.latest(np.full(len(times), place), times)
        for ts, seconds, vector in zip(times.tolist(), age, words, strict=True):
            last = [row for row in rows if row.query and row.user == user and row.event.ts < ts]
            fresh = last and ts - last[-1].event.ts <= 30 * MINUTE
            assert seconds == (ts - last[-1].event.ts) / 1e6 if fresh else np.isnan(seconds)
            same = [row.query or "" for row in last if row.event.ts == last[-1].event.ts] if fresh else [""]
            assert any((vector == hashed_texts([query])[0]).all() for query in same)
    for video in ("v0", "v3", "v9"):
        row_of = int(catalogue.rows([video])[0])
        found = moments.videos.features(np.full(len(times), row_of), times)
        wanted = [values(VIDEO_STREAM, folded(ts, video=video), ts) for ts in times.tolist()]
        np.testing.assert_array_equal(found, np.stack(wanted))
