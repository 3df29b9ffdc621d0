"""Feast's own Redis store, as its documentation has one set it up: the peer of the packed store."""

import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float32

AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 5_000


class Stock:
    """One view of float32 features in Feast's Redis store, in database 1 of a server on loopback."""

    def __init__(self, folder: Path, port: int, ids: list[str], rows: np.ndarray) -> None:
        names = [f"f{number:03d}" for number in range(rows.shape[1])]
        self.store = FeatureStore(
            config=RepoConfig(
                project="peer",
                provider="local",
                registry=str(folder / "registry.db"),
                online_store={"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"},
                entity_key_serialization_version=3,
            )
        )
        video = Entity(name="video", join_keys=["video_id"], value_type=ValueType.STRING)
        view = FeatureView(
            name="videos",
            entities=[video],
            schema=[Field(name=name, dtype=Float32) for name in names],
            source=FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp"),
            ttl=timedelta(0),
        )
        self.plain = FeatureService(name="plain", features=[view])
        self.precomputed = FeatureService(name="precomputed", features=[view], precompute_online=True)
        frame = pd.DataFrame(np.zeros((1, rows.shape[1]), np.float32), columns=names)
        frame.assign(video_id="", event_timestamp=AT).to_parquet(folder / "none.parquet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.store.apply([video, view, self.plain, self.precomputed])
            for start in range(0, len(ids), BATCH):
                part = pd.DataFrame(rows[start : start + BATCH], columns=names)
                part["video_id"], part["event_timestamp"] = ids[start : start + BATCH], AT
                self.store.write_to_online_store("videos", part)

    def precompute(self) -> None:
        self.store.precompute_feature_service("precomputed")

    def read(self, ids: list[str]) -> object:
        return self.store.get_online_features(self.plain, [{"video_id": id_} for id_ in ids])

    def read_precomputed(self, ids: list[str]) -> object:
        rows = [{"video_id": id_} for id_ in ids]
        return self.store.get_online_features(self.precomputed, rows, full_feature_names=True)
