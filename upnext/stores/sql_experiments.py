"""Experiments, hold-outs and exposures through SQLAlchemy: SQLite embedded, or a PostgreSQL server."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import sqlalchemy as sa

from upnext.contracts import EXPOSURES
from upnext.experiments import Experiment, parse
from upnext.stores.sql import EXPERIMENT_TABLE, EXPOSURE_TABLE, HOLDOUT_TABLE, SqlStore, table_of
from upnext.stores.tables import conform


class SqlExperiments(SqlStore):
    """Tables ``experiments`` and ``holdouts``, a row each, and ``exposures``, whose key counts each once."""

    def put(self, experiment: Experiment) -> None:
        row = {"name": experiment.name, "definition": experiment.model_dump(mode="json")}
        self._database.replace(EXPERIMENT_TABLE, row)

    def all(self) -> Sequence[Experiment]:
        found = self._database.rows(
            sa.select(EXPERIMENT_TABLE.c.definition).order_by(EXPERIMENT_TABLE.c.name)
        )
        return [parse(row[0]) for row in found]

    def hold_out(self, layer: str, share: float) -> None:
        self._database.replace(HOLDOUT_TABLE, {"layer": layer, "share": share})

    def holdouts(self) -> Mapping[str, float]:
        return {row.layer: row.share for row in self._database.rows(sa.select(HOLDOUT_TABLE))}

    def expose(self, exposures: pa.Table) -> int:
        rows = conform(exposures, EXPOSURES, "exposures").to_pylist()
        if not rows:
            return 0
        new = (
            self._database.insert(EXPOSURE_TABLE).on_conflict_do_nothing().returning(EXPOSURE_TABLE.c.user_id)
        )
        with self._database.errors(), self._database.engine.begin() as connection:
            return len(connection.execute(new, rows).all())

    def exposures(self, since: str = "") -> pa.Table:
        keys = (EXPOSURE_TABLE.c.date, EXPOSURE_TABLE.c.experiment, EXPOSURE_TABLE.c.user_id)
        columns = [EXPOSURE_TABLE.c[name] for name in EXPOSURES.names]
        found = self._database.rows(sa.select(*columns).where(EXPOSURE_TABLE.c.date >= since).order_by(*keys))
        return table_of(found, EXPOSURES)

    def forget(self, user_id: str) -> int:
        tested = [each for each in self.all() if user_id in each.overrides]
        for each in tested:
            others = {unit: variant for unit, variant in each.overrides.items() if unit != user_id}
            self.put(each.model_copy(update={"overrides": others}))
        exposed = sa.delete(EXPOSURE_TABLE).where(EXPOSURE_TABLE.c.user_id == user_id)
        return len(tested) + self._database.erase(exposed)

    def purge(self, before: str) -> int:
        return self._database.change(sa.delete(EXPOSURE_TABLE).where(EXPOSURE_TABLE.c.date < before))
