"""The shapes that cross Upnext's borders: events, videos, users, embeddings, recommendations.

Each of the first three exists twice, with the same columns: as a pydantic model for one object at the
API's edge, and as an Arrow schema for tables. Times are UTC with microseconds, durations are
milliseconds, ids are the platform's own strings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from uuid6 import uuid7


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Model = TypeVar("Model", bound=BaseModel)
Whole = BeforeValidator(_whole)
"""Takes an integer as JSON may also write it: 3.0."""
NO_NUL = r"^[^\x00]*$"
"""No character of code 0 in a text: a JSON document may have one, PostgreSQL has no place for it."""
Id = Annotated[str, Field(min_length=1, max_length=128, pattern=NO_NUL)]
Token = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_NUL)]
Query = Annotated[str, Field(min_length=1, max_length=500, pattern=NO_NUL)]
UtcTime = pa.timestamp("us", tz="UTC")


def strictly(model: type[Model], document: object) -> Model:
    """A document that came as JSON, held to its contract: no number for a time, no text for a number.

    Raises pydantic's ValidationError.
    """
    try:
        text = orjson.dumps(document)
    except TypeError:  # nothing that JSON could have brought
        return model.model_validate(document, strict=True)
    return model.model_validate_json(text, strict=True)


class EventType(StrEnum):
    """What a viewer did, or was shown."""

    IMPRESSION = "impression"
    CLICK = "click"
    WATCH = "watch"
    LIKE = "like"
    SHARE = "share"
    NOT_INTERESTED = "not_interested"
    SEARCH = "search"


class Event(BaseModel):
    """One engagement event. A repeated ``event_id`` counts once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_id: Id = Field(default_factory=lambda: str(uuid7()))
    """The client's, for idempotence; ours when the client sends none."""
    user_id: Id
    event_type: EventType
    video_id: Id | None = None
    """The video acted upon; only a search has none."""
    watch_duration_ms: Annotated[int, Field(ge=0, le=86_400_000), Whole] | None = None
    """Milliseconds played; may exceed the video's length when it is watched again. For watch only."""
    query: Query | None = None
    """What was searched for; for search only."""
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    session_id: Id | None = None
    request_id: Id | None = None
    """The recommendation that led here."""
    surface: Token | None = None
    """Where it happened: home, related, trending, search…"""
    position: Annotated[int, Field(ge=0, le=10_000), Whole] | None = None
    """Place in the slate, 0 at the top."""
    device: Token | None = None
    region: Token | None = None
    propensity: Annotated[float, Field(gt=0, le=1)] | None = None
    """Probability with which the policy that made the slate put this video in this place, where known."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.timestamp.tzinfo is None:
            raise ValueError("timestamp has no time zone: send UTC, such as 2026-11-23T07:30:00Z")
        if self.event_type is EventType.SEARCH:
            if self.query is None:
                raise ValueError("query is missing: a search event carries what was searched for")
        elif self.video_id is None:
            raise ValueError(f"video_id is missing: only a search has none, this is {self.event_type}")
        if self.event_type is EventType.WATCH and self.watch_duration_ms is None:
            raise ValueError("watch_duration_ms is missing: a watch event carries the milliseconds played")
        return self


EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("video_id", pa.string()),
        pa.field("watch_duration_ms", pa.int64()),  # null on a watch: watched, for an unknown time
        pa.field("query", pa.string()),
        pa.field("timestamp", UtcTime, nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("surface", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("device", pa.string()),
        pa.field("region", pa.string()),
        pa.field("propensity", pa.float32()),
    ]
)
"""Columns of :class:`Event` as an Arrow table."""


class Video(BaseModel):
    """One entry of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video_id: Id
    title: Annotated[str, Field(max_length=500, pattern=NO_NUL)] = ""
    tags: tuple[Token, ...] = Field(default=(), max_length=100)
    category: Token | None = None
    creator_id: Id | None = None
    duration_ms: Annotated[int, Field(ge=1, le=86_400_000), Whole] | None = None
    """Length in milliseconds, where known."""
    uploaded_at: datetime | None = None
    language: Token | None = None
    region: Token | None = None
    thumbnail_url: Annotated[str, Field(max_length=2_000, pattern=NO_NUL)] | None = None
    age_restricted: bool = False
    made_for_kids: bool = False
    """Fit for children: what a viewer in kids mode may be shown."""
    blocked_regions: tuple[Token, ...] = Field(default=(), max_length=300)
    """Regions in which it must not be shown."""
    status: Literal["active", "blocked", "deleted"] = "active"


VIDEOS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("category", pa.string()),
        pa.field("creator_id", pa.string()),
        pa.field("duration_ms", pa.int64()),
        pa.field("uploaded_at", UtcTime),
        pa.field("language", pa.string()),
        pa.field("region", pa.string()),
        pa.field("thumbnail_url", pa.string()),
        pa.field("age_restricted", pa.bool_()),
        pa.field("made_for_kids", pa.bool_()),
        pa.field("blocked_regions", pa.list_(pa.string())),
        pa.field("status", pa.string()),
    ]
)
"""Columns of :class:`Video` as an Arrow table."""


class User(BaseModel):
    """What a platform tells about one of its viewers; everything but the id may be unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: Id
    region: Token | None = None
    language: Token | None = None
    device: Token | None = None
    age_group: Token | None = None
    topics: tuple[Token, ...] = Field(default=(), max_length=50)
    """Interests named at sign-up, as categories."""
    segments: tuple[Token, ...] = Field(default=(), max_length=100)
    """Whatever else the platform knows, as ``name=value`` tokens."""
    kids_mode: bool = False
    """Shown only what is made for kids, and no ads."""
    created_at: datetime | None = None


USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("region", pa.string()),
        pa.field("language", pa.string()),
        pa.field("device", pa.string()),
        pa.field("age_group", pa.string()),
        pa.field("topics", pa.list_(pa.string())),
        pa.field("segments", pa.list_(pa.string())),
        pa.field("kids_mode", pa.bool_()),
        pa.field("created_at", UtcTime),
    ]
)
"""Columns of :class:`User` as an Arrow table."""

LOGGED_FEATURES = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("timestamp", UtcTime, nullable=False),  # of the answer, as in its impressions
        pa.field("computed_for", UtcTime, nullable=False),  # the moment that context and cross are of
        pa.field("user_snapshot", UtcTime),  # when the user's features held; null: there were none
        pa.field("video_snapshot", UtcTime),  # the same of the videos'
        pa.field("surface", pa.string(), nullable=False),
        pa.field("device", pa.string()),
        pa.field("region", pa.string()),
        pa.field("language", pa.string()),
        pa.field("release", pa.string(), nullable=False),
        pa.field("schema", pa.string(), nullable=False),  # RankSchema.hash of the ranker that read the blocks
        pa.field("user", pa.binary(), nullable=False),  # this to cross: float32, little-endian
        pa.field("context", pa.binary(), nullable=False),
        pa.field("video", pa.binary(), nullable=False),
        pa.field("cross", pa.binary(), nullable=False),
    ]
)
"""The features with which each item of an answer was ranked, as the ranker read them."""

QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),  # events, videos or users
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),  # the row as JSON, as it came
        pa.field("source", pa.string(), nullable=False),
    ]
)
"""Rows that were refused, each with its reason."""


EXPOSURES = pa.schema(
    [
        pa.field("date", pa.string(), nullable=False),  # UTC day, YYYY-MM-DD
        pa.field("experiment", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),  # the session's id where there was no user
        pa.field("variant", pa.string(), nullable=False),
        pa.field("exposed_at", UtcTime, nullable=False),
    ]
)
"""Who got an answer that an experiment could have changed; one row per day, experiment and unit."""


@dataclass(frozen=True)
class Embeddings:
    """Vectors bound to what they stand for.

    ids: str[n]; vectors: float32[n, d]. Row i of one belongs to entry i of the other.
    """

    ids: NDArray[np.str_] | Sequence[str]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ValueError(f"vectors are {self.vectors.dtype}{self.vectors.shape}, not float32[n, d]")
        if len(self.ids) != len(self.vectors):
            raise ValueError(f"{len(self.ids)} ids for {len(self.vectors)} vectors: they must pair up")


class Reason(BaseModel):
    """Why an item is in the slate."""

    code: str
    """Machine-readable, such as ``because_you_watched``."""
    text: str
    because_of: str | None = None
    """The evidence: a video, creator, region or query."""


class Item(BaseModel):
    """One place of a slate."""

    video_id: str
    position: int
    score: float
    title: str = ""
    creator_id: str | None = None
    category: str | None = None
    duration_ms: int | None = None
    uploaded_at: datetime | None = None
    thumbnail_url: str | None = None
    reason: Reason
    sources: list[str]
    """The retrievers that found it."""
    is_ad: bool = False
    click_url: str | None = None
    """Where an ad leads; a video has none."""
    heads: dict[str, float] | None = None
    """Probabilities by head, when asked for with ``debug=true``."""


class Recommendation(BaseModel):
    """The answer to one request for videos."""

    request_id: str
    surface: str
    items: list[Item]
    release: str
    """Version of the bundle that answered."""
    experiments: dict[str, str] = Field(default_factory=dict)
    about: str | None = None
    """What the shelf is about: a video, a topic or a query."""
    next_cursor: str | None = None
    """Send it as ``cursor`` for the next page; null behind the last one."""
    took_ms: float
    debug: dict[str, object] | None = None
    """Stage timings and candidate counts, when asked for with ``debug=true``."""
