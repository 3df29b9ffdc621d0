"""What crosses the borders: one object at a time as a model, many as a table."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from upnext.contracts import EVENTS, USERS, VIDEOS, Embeddings, Event, EventType, User, Video

NOW = "2026-11-23T07:30:00Z"


def event(**fields: Any) -> Event:
    return Event.model_validate(
        {"user_id": "u", "event_type": "like", "video_id": "v", "timestamp": NOW} | fields
    )


@pytest.mark.parametrize("kind", list(EventType))
def test_every_type_of_event_has_a_valid_form(kind: EventType) -> None:
    extra: dict[str, Any] = {"watch": {"watch_duration_ms": 0}, "search": {"query": "q", "video_id": None}}
    assert event(event_type=kind.value, **extra.get(kind.value, {})).event_type is kind


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_type": "purchase"}, "event_type"),
        ({"event_type": "watch"}, "watch_duration_ms is missing"),
        ({"event_type": "watch", "watch_duration_ms": -1}, "watch_duration_ms"),
        ({"event_type": "watch", "watch_duration_ms": 86_400_001}, "watch_duration_ms"),
        ({"event_type": "watch", "watch_duration_ms": "long"}, "watch_duration_ms"),
        ({"event_type": "search"}, "query is missing"),
        ({"event_type": "search", "query": ""}, "query"),
        ({"event_type": "search", "query": "q" * 501}, "query"),
        ({"video_id": None}, "video_id is missing.*like"),
        ({"video_id": "v" * 129}, "video_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u\0"}, "user_id"),
        ({"timestamp": "2026-11-23T07:30:00"}, "time zone"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"position": -1}, "position"),
        ({"propensity": 0}, "propensity"),
        ({"propensity": 1.5}, "propensity"),
        ({"surface": ""}, "surface"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_event_is_refused_with_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        event(**fields)


def test_what_the_client_leaves_out_is_filled_in() -> None:
    before = datetime.now(UTC)
    first, second = (Event(user_id="u", event_type=EventType.LIKE, video_id="v") for _ in range(2))
    assert first.event_id != second.event_id
    assert before <= first.timestamp <= datetime.now(UTC)


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        event().user_id = "another"  # type: ignore[misc]


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=128),
    st.datetimes(timezones=st.just(UTC)),
)
def test_an_event_survives_its_json(user: str, moment: datetime) -> None:
    given_event = event(user_id=user, timestamp=moment)
    assert Event.model_validate_json(given_event.model_dump_json()) == given_event


FULL = {
    Event: {
        "user_id": "u", "event_type": "search", "video_id": "v", "watch_duration_ms": 1, "query": "q",
        "timestamp": NOW, "session_id": "s", "request_id": "r", "surface": "home", "position": 1,
        "device": "tv", "region": "DE", "propensity": 0.5,
    },
    Video: {
        "video_id": "v", "title": "t", "tags": ["a"], "category": "c", "creator_id": "m", "duration_ms": 1,
        "uploaded_at": NOW, "language": "de", "region": "DE", "thumbnail_url": "x", "age_restricted": True,
        "made_for_kids": True, "blocked_regions": ["AT"], "status": "active",
    },
    User: {
        "user_id": "u", "region": "DE", "language": "de", "device": "tv", "age_group": "18-24",
        "topics": ["a"], "segments": ["a=b"], "kids_mode": True, "created_at": NOW,
    },
}  # fmt: skip


@pytest.mark.parametrize(("model", "schema"), [(Event, EVENTS), (Video, VIDEOS), (User, USERS)])
def test_model_and_table_have_the_same_columns_and_fitting_types(
    model: type[BaseModel], schema: pa.Schema
) -> None:
    assert list(model.model_fields) == schema.names
    row = model.model_validate(FULL[model]).model_dump()
    assert None not in row.values(), "the sample fills every field"
    back = pa.Table.from_pylist([row], schema=schema).to_pylist()[0]
    assert back == {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


@pytest.mark.parametrize(("model", "schema"), [(Event, EVENTS), (Video, VIDEOS), (User, USERS)])
def test_what_a_model_must_have_no_row_may_lack(model: type[BaseModel], schema: pa.Schema) -> None:
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    never_null = {field.name for field in schema if not field.nullable}
    assert required <= never_null


def test_embeddings_bind_ids_to_vectors() -> None:
    good = Embeddings(["a", "b"], np.zeros((2, 3), np.float32))
    assert len(good.ids) == len(good.vectors)
    with pytest.raises(ValueError, match="1 ids for 2 vectors"):
        Embeddings(["a"], np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"float64\(2, 3\)"):
        Embeddings(["a", "b"], np.zeros((2, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"float32\(2,\)"):
        Embeddings(["a", "b"], np.zeros(2, np.float32))
