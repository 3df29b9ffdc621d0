"""The registry of release bundles: versions in MLflow, with aliases that say which one serves.

Aliases: ``candidate`` passed its gate last, ``champion`` serves, ``previous`` is the champion before, kept
to go back to. A release that answers a share of the users is an experiment's (docs/experiments.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from upnext import tracking
from upnext.errors import NotFound, StoreUnavailable
from upnext.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIASES = ("champion", "candidate", "previous")


@dataclass(frozen=True)
class Release:
    """One registered bundle."""

    version: str
    path: Path
    """Folder of the bundle on this machine."""
    run_id: str


@dataclass(frozen=True)
class Listed:
    """One line of the list of releases."""

    version: str
    until: str
    """End of the interval that it was trained on."""
    aliases: tuple[str, ...]


class Releases:
    """Registered bundles of the data set in use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = f"upnext-{settings.state.name}"

    def resolve(self, ref: str = "champion") -> Release:
        """The release that an alias or a version names; a folder names itself."""
        folder = Path(ref)
        if (folder / "manifest.json").is_file():
            return Release(version=folder.name, path=folder, run_id="")
        found = self._find(ref)
        if found is None:
            raise NotFound(
                f"release {ref!r} of {self.name} is not registered, nor a folder with a manifest.json: "
                "run `upnext cycle --data SOURCE` first, or name a version or one of " + ", ".join(ALIASES)
            )
        return Release(str(found.version), self._local(found), str(found.run_id))

    def version(self, alias: str) -> str | None:
        """Version that an alias points to, None when it points nowhere. Cheap: for polling."""
        found = self._find(alias)
        return None if found is None else str(found.version)

    def list(self) -> "list[Listed]":
        """All registered releases, the newest first."""
        found = self._client().search_model_versions(f"name='{self.name}'")
        aliases: dict[str, list[str]] = {}
        for alias in ALIASES:
            version = self.version(alias)
            if version is not None:
                aliases.setdefault(version, []).append(alias)
        return [
            Listed(
                str(each.version), str(each.tags.get("until", "")), tuple(aliases.get(str(each.version), ()))
            )
            for each in sorted(found, key=lambda each: -int(each.version))
        ]

    def register(self, run_id: str, artifact: str, tags: Mapping[str, str]) -> str:
        """Make the bundle that a run logged below ``artifact`` a new version, under ``candidate``."""
        from mlflow.exceptions import MlflowException

        client = self._client()
        try:
            client.create_registered_model(self.name, description="Release bundles of Upnext")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{client.get_run(run_id).info.artifact_uri}/{artifact}"
        made = client.create_model_version(self.name, source=source, run_id=run_id, tags=dict(tags))
        client.set_registered_model_alias(self.name, "candidate", made.version)
        return str(made.version)

    def promote(self, version: str) -> None:
        """Make a version the champion; the champion until now becomes ``previous``."""
        if self.version(version) is None:
            raise NotFound(
                f"release {version!r} of {self.name} is not registered: `upnext release` lists those that are"
            )
        client, champion = self._client(), self.version("champion")
        if champion == version:
            return
        if champion is not None:
            client.set_registered_model_alias(self.name, "previous", champion)
        client.set_registered_model_alias(self.name, "champion", version)

    def _find(self, ref: str) -> Any | None:
        if tracking.untouched(self._settings):
            return None
        from mlflow.exceptions import MlflowException

        client = self._client()
        try:
            if ref.isdecimal():
                return client.get_model_version(self.name, ref)
            return client.get_model_version_by_alias(self.name, ref)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise StoreUnavailable(f"the registry at {self._settings.url('tracking')}: {error}") from error

    def _local(self, version: Any) -> Path:
        source = urlsplit(str(version.source))
        if source.scheme in {"", "file"} and Path(unquote(source.path)).is_dir():
            return Path(unquote(source.path))
        import mlflow.artifacts

        target = self._settings.state / "releases" / str(version.version)
        if not (target / "manifest.json").is_file():
            target.mkdir(parents=True, exist_ok=True)
            mlflow.artifacts.download_artifacts(
                version.source, dst_path=str(target), tracking_uri=self._settings.url("tracking")
            )
        return next(path.parent for path in target.rglob("manifest.json"))

    def _client(self) -> "MlflowClient":
        from upnext.tracking import client

        return client(self._settings)
