"""MLflow as Upnext uses it: one experiment per data set, artifacts below UPNEXT_HOME."""

import logging
import os
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upnext.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

_NO_NAME = re.compile(r"[^\w. -]")
"""What MLflow takes in no metric's name, such as the = of ``surface=home``, or not everywhere, as / and :."""
_LONGEST_NAME = 250


def client(settings: Settings) -> "MlflowClient":
    """A client of the tracking server and registry that the settings name."""
    return _client(settings.url("tracking"))


def untouched(settings: Settings) -> bool:
    """Whether nothing was ever logged to a local file: asking MLflow would create it, which takes seconds."""
    url = settings.url("tracking")
    return url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists()


@lru_cache(maxsize=4)
def _client(url: str) -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    # It tells on every terminal that it makes its tables, and which parts of SQLAlchemy it is late with.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=url, registry_uri=url)


def log_run(
    settings: Settings,
    name: str,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Mapping[str, Path] | None = None,
) -> str:
    """Record one finished run, its artifacts below the given names; answers with its id.

    Metrics may have any names: what MLflow would refuse in one becomes ``_``.
    """
    from mlflow.entities import Metric, Param, RunTag

    mlflow = client(settings)
    run = mlflow.create_run(_experiment(settings), run_name=name)
    run_id = str(run.info.run_id)
    now = run.info.start_time
    mlflow.log_batch(
        run_id,
        metrics=[Metric(_name(key), float(value), now, 0) for key, value in metrics.items()],
        params=[Param(key, str(value)) for key, value in params.items()],
        tags=[RunTag(key, str(value)) for key, value in tags.items()],
    )
    for target, folder in (artifacts or {}).items():
        mlflow.log_artifacts(run_id, str(folder), target)
    mlflow.set_terminated(run_id)
    return run_id


def _name(metric: str) -> str:
    return _NO_NAME.sub("_", metric)[:_LONGEST_NAME]


def _experiment(settings: Settings) -> str:
    from mlflow.exceptions import MlflowException

    mlflow = client(settings)
    name = f"upnext-{settings.state.name}"
    # A server keeps artifacts where it was told to; beside a local file they lie in the home.
    local = settings.url("tracking").startswith("sqlite:")
    folder = settings.home.absolute() / "artifacts" / settings.state.name
    found = mlflow.get_experiment_by_name(name)
    while found is None:
        try:
            mlflow.create_experiment(name, artifact_location=folder.as_uri() if local else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # as when a step beside this one was faster
                raise
        found = mlflow.get_experiment_by_name(name)
    return str(found.experiment_id)
