"""A small log with every awkward case in it, for the tests of features and examples."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from upnext.contracts import EVENTS, USERS, VIDEOS
from upnext.settings import Settings
from upnext.stores import Stores, connect

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 12
END = START + timedelta(days=DAYS)
TIME = pa.timestamp("us", tz="UTC")
OUTCOMES = pa.schema(
    [
        *((name, pa.string()) for name in ("user_id", "video_id", "request_id", "session_id")),
        ("timestamp", TIME),
        ("engaged_at", TIME),
        ("surface", pa.string()),
        ("position", pa.int32()),
        ("device", pa.string()),
        ("region", pa.string()),
        ("propensity", pa.float32()),
        *((name, pa.bool_()) for name in ("shown", "clicked", "liked", "shared", "not_interested")),
        ("watch_ms", pa.int64()),
        ("watched", pa.bool_()),
        ("duration_ms", pa.int64()),
        ("watch_fraction", pa.float32()),
        ("date", pa.string()),
    ]
)


@dataclass(frozen=True)
class Log:
    outcomes: pa.Table
    videos: pa.Table
    users: pa.Table

    def write(self, home: Path) -> Stores:
        """Stores over a new lake that holds this log."""
        stores = connect(Settings(home=home))
        stores.lake.append("outcomes", self.outcomes, ["date"])
        stores.lake.append("videos", self.videos)
        stores.lake.append("users", self.users)
        stores.lake.append("events", EVENTS.empty_table())
        return stores


def video(place: int, **known: object) -> dict[str, object]:
    row = {"video_id": f"v{place}", "title": "", "tags": [], "age_restricted": False, "status": "active"}
    return {**dict.fromkeys(VIDEOS.names), **row, **known}


def outcome(user: str, video_id: str, at: datetime, **known: object) -> dict[str, object]:
    """One outcome: shown and ignored unless said otherwise."""
    row: dict[str, object] = {
        "user_id": user,
        "video_id": video_id,
        "timestamp": at,
        "engaged_at": at,
        "shown": True,
        "watched": False,
        "watch_fraction": 0.0,
        "date": f"{at:%Y-%m-%d}",
        **dict.fromkeys(("clicked", "liked", "shared", "not_interested"), False),
    }
    return {**dict.fromkeys(OUTCOMES.names), **row, **known}


def outcomes(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, OUTCOMES)


def small_log(seed: int = 0, rows: int = 600, users: int = 12, videos: int = 25) -> Log:
    """Random outcomes of 12 days: slates, watches of unknown length, history that was never shown."""
    rng = np.random.default_rng(seed)
    catalogue = [
        video(
            place,
            category=None if place % 7 == 0 else f"c{place % 4}",
            creator_id=None if place % 9 == 0 else f"k{place % 5}",
            duration_ms=None if place % 11 == 0 else int(rng.integers(5_000, 200_000)),
            uploaded_at=None if place % 6 == 0 else START + timedelta(hours=int(rng.integers(-900, 250))),
            status="blocked" if place == 3 else "active",
        )
        for place in range(videos)
    ]
    people = [
        {
            **dict.fromkeys(USERS.names),
            "user_id": f"u{place}",
            "region": None if place == 0 else f"r{place % 3}",
            "device": ["phone", "tv"][place % 2],
            "language": "en",
            "topics": [],
            "segments": [],
            "created_at": START + timedelta(days=place - 5) if place % 3 else None,
        }
        for place in range(users - 1)  # the last viewer is in no table
    ]
    log = [_random_outcome(rng, catalogue, users) for _ in range(rows)]
    return Log(outcomes(log), pa.Table.from_pylist(catalogue, VIDEOS), pa.Table.from_pylist(people, USERS))


def _random_outcome(
    rng: np.random.Generator, catalogue: list[dict[str, object]], users: int
) -> dict[str, object]:
    chosen = catalogue[int(len(catalogue) * rng.random() ** 2)]
    at = START + timedelta(seconds=int(rng.integers(0, DAYS * 86_400)))
    watched, timed = bool(rng.random() < 0.5), bool(rng.random() < 0.8)
    length = chosen["duration_ms"]
    played = int(rng.integers(0, 250_000)) if watched and timed else None
    known = played is not None and isinstance(length, int)
    fraction = min(played / length, 1.0) if known else float(watched)  # type: ignore[operator]
    viewer = f"u{int(rng.integers(0, users))}"
    return outcome(
        viewer,
        str(chosen["video_id"]),
        at,
        engaged_at=at + timedelta(seconds=int(rng.integers(0, 7200))) if watched else at,
        request_id=f"{viewer}-{at:%d%H}" if rng.random() < 0.6 else None,
        session_id=f"{viewer}-{at:%d}" if rng.random() < 0.5 else None,
        surface=["home", "related", None][int(rng.integers(0, 3))],
        position=int(rng.integers(0, 10)),
        device=["phone", "tv"][int(rng.integers(0, 2))],
        shown=bool(timed and rng.random() < 0.9),
        clicked=bool(watched and rng.random() < 0.8),
        liked=bool(rng.random() < 0.1),
        shared=bool(rng.random() < 0.1),
        not_interested=bool(rng.random() < 0.05),
        watched=watched,
        watch_ms=played,
        duration_ms=length,
        watch_fraction=fraction,
    )
