"""The specs as Feast objects: entities, feature views over Delta tables, and a service per model."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Float32

from feature_repo.specs import USER, VIDEO, ViewSpec

OWNER = "upnext"
TIMESTAMP = "event_timestamp"
"""Column with the time of a snapshot: everything in the row was known strictly before it."""
RANKER = "ranker"
"""Service of what the ranker reads."""


@dataclass(frozen=True)
class Definitions:
    """Everything that is registered with Feast."""

    user: Entity
    video: Entity
    user_features: FeatureView
    video_features: FeatureView
    ranker: FeatureService

    @property
    def views(self) -> dict[str, FeatureView]:
        return {view.name: view for view in (self.user_features, self.video_features)}

    @property
    def objects(self) -> list[Any]:
        """As :meth:`feast.FeatureStore.apply` takes them."""
        return [self.user, self.video, self.user_features, self.video_features, self.ranker]


def definitions(uri: Callable[[str], str]) -> Definitions:
    """All definitions; ``uri`` tells where a Delta table lies, as :meth:`upnext.ports.Lake.uri` does."""
    user, video = _entity(USER, "A viewer"), _entity(VIDEO, "An entry of the catalogue")
    of_user, of_video = _view(USER, user, uri), _view(VIDEO, video, uri)
    ranker = FeatureService(
        name=RANKER,
        features=[of_user, of_video],
        description="Viewer and video features of the multi-task ranker",
        owner=OWNER,
    )
    return Definitions(user, video, of_user, of_video, ranker)


def _entity(spec: ViewSpec, description: str) -> Entity:
    return Entity(
        name=spec.entity,
        join_keys=[spec.key],
        value_type=ValueType.STRING,
        description=description,
        owner=OWNER,
    )


def _view(spec: ViewSpec, entity: Entity, uri: Callable[[str], str]) -> FeatureView:
    source = FileSource(
        name=spec.table,
        path=uri(spec.table),
        file_format=DeltaFormat(),
        timestamp_field=TIMESTAMP,
        description=f"Snapshots of {spec.name}, a partition each",
        owner=OWNER,
    )
    fields = [
        Field(
            name=feature.name,
            dtype=Float32,
            description=feature.description,
            tags={"unit": feature.unit, "dtype": feature.dtype, "default": repr(feature.default)},
        )
        for feature in spec.features
    ]
    return FeatureView(
        name=spec.name,
        entities=[entity],
        schema=fields,
        source=source,
        ttl=timedelta(0),  # a feature holds until the next snapshot
        description=spec.description,
        tags={"entity": spec.entity},
        owner=OWNER,
    )
