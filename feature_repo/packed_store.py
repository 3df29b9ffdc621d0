"""A Feast online store of one packed value per entity, over the online-features port."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel

from feature_repo.layout import defaults_of, layout_of
from feature_repo.packed import PackedFeatures
from upnext.errors import ConfigError
from upnext.ports import OnlineFeatures
from upnext.times import microseconds, moment

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Part ``online_store`` of Feast's configuration."""

    type: Literal["feature_repo.packed_store.PackedOnlineStore"] = (
        "feature_repo.packed_store.PackedOnlineStore"
    )
    url: str
    """URL of the online-features port, such as ``lmdb:///var/lib/upnext/online``."""


class PackedOnlineStore(OnlineStore):
    """Feast's interface around :class:`feature_repo.packed.PackedFeatures`.

    Feast builds it without arguments; the URL of the configuration is opened on first use.
    """

    def __init__(self) -> None:
        self._port: OnlineFeatures | None = None
        self._views: dict[str, PackedFeatures] = {}

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows as Feast hands them over, a protobuf per value."""
        packed = self._packed(config, table)
        fallback = defaults_of(table)
        rows = np.tile(fallback, (len(data), 1))
        place = {name: column for column, name in enumerate(packed.layouts[table.name].names)}
        for row, (_, values, _, _) in enumerate(data):
            for name, value in values.items():
                kind = value.WhichOneof("val")
                if kind is not None and name in place:
                    rows[row, place[name]] = getattr(value, kind)
        stamps = np.array([_micros(event_time) for _, _, event_time, _ in data], np.int64)
        ids = [entity_id(key) for key, *_ in data]
        packed.write_matrix(table.name, ids, rows, stamps, table.ttl or None)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Rows as Feast wants them: event time and a protobuf per feature, (None, None) where there is none
        that can be used."""
        packed = self._packed(config, table)
        layout = packed.layouts[table.name]
        values = packed.read(table.name, [entity_id(key) for key in entity_keys])
        unpacked = packed.unpack(table.name, values)
        wanted = [name for name in layout.names if requested_features is None or name in requested_features]
        columns = [layout.names.index(name) for name in wanted]
        return [
            (None, None)
            if lacking
            else (
                moment(stamp),
                {name: Value(float_val=row[column]) for name, column in zip(wanted, columns, strict=True)},
            )
            for lacking, row, stamp in zip(
                unpacked.lack.tolist(), unpacked.rows.tolist(), unpacked.timestamps, strict=True
            )
        ]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Drop the values of views that are no longer defined; new ones need no preparation."""
        for table in tables_to_delete:
            self._packed(config, table).drop(table.name)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop the values of these views in every layout."""
        for table in tables:
            self._packed(config, table).drop(table.name)

    def _packed(self, config: RepoConfig, table: FeatureView) -> PackedFeatures:
        layout = layout_of(table)
        known = self._views.get(table.name)
        if known is None or known.layouts[table.name] != layout:
            known = PackedFeatures(self._open(config), {table.name: layout}, {table.name: defaults_of(table)})
            self._views[table.name] = known
        return known

    def _open(self, config: RepoConfig) -> OnlineFeatures:
        if self._port is None:
            from upnext.settings import load_settings
            from upnext.stores import connect

            settings = load_settings(online_features_url=config.online_store.url)
            self._port = connect(settings).online_features
        return self._port


def entity_id(key: EntityKey) -> str:
    """The id of an entity; ConfigError unless its key is one string."""
    values: list[str] = [
        value.string_val for value in key.entity_values if value.WhichOneof("val") == "string_val"
    ]
    if len(values) != 1 or len(key.entity_values) != 1:
        raise ConfigError(f"entity key {list(key.join_keys)} is not one string: packed views have one id")
    return values[0]


def _micros(time: datetime) -> int:
    return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))
