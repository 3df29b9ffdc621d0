"""The specs as Feast objects: entities, views over Delta tables and pushes, and a service per model."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Float32

from feature_repo.specs import (
    CREATOR,
    OWNER,
    STREAMS,
    TIMESTAMP,
    USER,
    USER_STREAM,
    VIDEO,
    VIDEO_STREAM,
    VIEWS,
    ViewSpec,
)

RANKER = "ranker"
"""Service of what the ranker reads."""
TWO_TOWER = "two_tower"
"""Service of what the video tower reads; ALS reads who watched what, and no features."""


@dataclass(frozen=True)
class Definitions:
    """Everything that is registered with Feast."""

    user: Entity
    video: Entity
    creator: Entity
    user_features: FeatureView
    video_features: FeatureView
    creator_features: FeatureView
    user_stream: FeatureView
    video_stream: FeatureView
    ranker: FeatureService
    two_tower: FeatureService

    @property
    def views(self) -> dict[str, FeatureView]:
        return {name: getattr(self, name) for name in (*VIEWS, *STREAMS)}

    @property
    def objects(self) -> list[Any]:
        """As :meth:`feast.FeatureStore.apply` takes them."""
        return [self.user, self.video, self.creator, *self.views.values(), self.ranker, self.two_tower]


def definitions(uri: Callable[[str], str]) -> Definitions:
    """All definitions; ``uri`` tells where a Delta table lies, as :meth:`upnext.ports.Lake.uri` does."""
    user, video = _entity(USER, "A viewer"), _entity(VIDEO, "An entry of the catalogue")
    creator = _entity(CREATOR, "Who uploads videos")
    of_user, of_video = _view(USER, user, uri), _view(VIDEO, video, uri)
    live_user, live_video = _view(USER_STREAM, user, uri), _view(VIDEO_STREAM, video, uri)
    ranker = FeatureService(
        name=RANKER,
        features=[of_user, of_video, live_user, live_video],
        description="What the multi-task ranker reads of viewers and videos, and makes crosses of",
        owner=OWNER,
    )
    two_tower = FeatureService(
        name=TWO_TOWER,
        features=[of_video[[name for name in VIDEO.names if name.startswith("visual_")]]],
        description="What the video tower reads beside words, category, creator, length and age: its looks",
        owner=OWNER,
    )
    return Definitions(
        user=user,
        video=video,
        creator=creator,
        user_features=of_user,
        video_features=of_video,
        creator_features=_view(CREATOR, creator, uri),
        user_stream=live_user,
        video_stream=live_video,
        ranker=ranker,
        two_tower=two_tower,
    )


def _entity(spec: ViewSpec, description: str) -> Entity:
    return Entity(
        name=spec.entity,
        join_keys=[spec.key],
        value_type=ValueType.STRING,
        description=description,
        owner=OWNER,
    )


def _view(spec: ViewSpec, entity: Entity, uri: Callable[[str], str]) -> FeatureView:
    table = FileSource(
        name=spec.table,
        path=uri(spec.table),
        file_format=DeltaFormat(),
        timestamp_field=TIMESTAMP,
        description=f"Snapshots of {spec.name}, a partition each",
        owner=spec.owner,
    )
    fields = [
        Field(
            name=feature.name,
            dtype=Float32,
            description=feature.description,
            tags={
                "unit": feature.unit,
                "dtype": feature.dtype,
                "default": repr(feature.default),
                "owner": spec.owner,
            },
        )
        for feature in spec.features
    ]
    return FeatureView(
        name=spec.name,
        entities=[entity],
        schema=fields,
        source=_pushed(spec, table) if spec.window_minutes else table,
        ttl=timedelta(minutes=spec.window_minutes),  # 0: a feature holds until the next snapshot
        description=spec.description,
        tags={"entity": spec.entity},
        owner=spec.owner,
    )


def _pushed(spec: ViewSpec, table: FileSource) -> PushSource:
    """Values that a consumer of the event log pushes as they change."""
    return PushSource(
        name=f"{spec.name}_push",
        batch_source=table,
        description=f"{spec.name} as the consumer of the event log finds it",
        owner=spec.owner,
    )
