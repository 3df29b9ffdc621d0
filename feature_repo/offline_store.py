"""A Feast offline store over the lake's Delta tables: DuckDB's ASOF join, tables read by delta-rs.

docs/adr/0003-feature-store.md says why none of Feast's own stores does.
"""

from datetime import datetime
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from feast import FeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.ibis import (
    IbisRetrievalJob,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from upnext.errors import ConfigError

ROW = "__row"


class LakeOfflineStoreConfig(FeastConfigBaseModel):
    """Part ``offline_store`` of Feast's configuration."""

    type: Literal["feature_repo.offline_store.LakeOfflineStore"] = (
        "feature_repo.offline_store.LakeOfflineStore"
    )


class LakeOfflineStore(OfflineStore):
    """Point-in-time joins and ranges of the snapshots in the lake."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **_: Any,
    ) -> RetrievalJob:
        """The newest features at or before each row's time, in ``entity_df``'s order; null where none."""
        if not isinstance(entity_df, pd.DataFrame):
            raise ConfigError("entity_df is not a data frame: this store joins data frames only")
        time = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        con = ibis.duckdb.connect()
        con.con.register("entities", _entities(entity_df, time))
        joined = con.table("entities")
        for view in feature_views:
            names = _names(view, feature_refs, full_feature_names)
            con.con.register(view.name, _dataset(view.batch_source))
            joined = _asof(joined, con.table(view.name), view, names, time)
        stamps = pd.to_datetime(entity_df[time], utc=True)
        return IbisRetrievalJob(
            joined.order_by(ROW).drop(ROW),
            on_demand_feature_views=[],
            full_feature_names=full_feature_names,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entity_df.columns if name != time],
                min_event_timestamp=stamps.min(),
                max_event_timestamp=stamps.max(),
            ),
            data_source_writer=_no_writes,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity between two times: what Feast materialises."""
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_read,
            data_source_writer=_no_writes,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row between two times."""
        return pull_all_from_table_or_query_ibis(
            config=config,
            data_source=data_source,
            join_key_columns=join_key_columns,
            feature_name_columns=feature_name_columns,
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
            data_source_reader=_read,
            data_source_writer=_no_writes,
        )


def _entities(entity_df: pd.DataFrame, time: str) -> pa.Table:
    """The rows to be joined, numbered, their times in UTC."""
    stamps = pd.to_datetime(entity_df[time], utc=True).dt.as_unit("us")
    table = pa.Table.from_pandas(entity_df.assign(**{time: stamps}), preserve_index=False)
    return table.append_column(ROW, pa.array(range(len(table)), pa.int64()))


def _names(view: FeatureView, feature_refs: list[str], full: bool) -> dict[str, str]:
    """Name in the result -> column, of the features that are asked for."""
    known: str = view.projection.name_to_use()  # type: ignore[no-untyped-call]
    wanted = [ref.split(":")[1] for ref in feature_refs if ref.split(":")[0] == known]
    return {f"{known}__{name}" if full else name: name for name in wanted}


def _asof(left: ir.Table, right: ir.Table, view: FeatureView, names: dict[str, str], time: str) -> ir.Table:
    """Each row of ``left`` with the newest row of the view at or before its time."""
    stamp = _delta(view.batch_source).timestamp_field
    keys = view.projection.join_key_map or {column.name: column.name for column in view.entity_columns}
    keyed = right.select(
        **{f"__{key}": right[key] for key in keys},
        __at=right[stamp],
        **{n: right[c] for n, c in names.items()},
    )
    predicates = [left[name] == keyed[f"__{key}"] for key, name in keys.items()]
    joined = left.asof_join(keyed, left[time] >= keyed["__at"], predicates)
    if view.ttl:
        fresh = joined["__at"] + ibis.interval(seconds=int(view.ttl.total_seconds())) >= joined[time]
        joined = joined.mutate(**{name: ibis.ifelse(fresh, joined[name], None) for name in names})
    return joined.select(*left.columns, *names)


def _delta(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource):
        raise ConfigError(
            f"source is {type(source).__name__}: this store reads Delta tables (FileSource) only"
        )
    return source


def _dataset(source: DataSource | None) -> ds.Dataset:
    """The rows of a Delta table, read as they are asked for."""
    return DeltaTable(_delta(source).path).to_pyarrow_dataset()


def _read(source: DataSource, repo_path: str) -> ir.Table:
    con = ibis.duckdb.connect()
    con.con.register("source", _dataset(source))
    return con.table("source")


def _no_writes(*_: Any) -> None:
    raise ConfigError("the lake is written by the pipeline's steps, not through Feast")
