"""Where everything is: one URL per outside system, the local profile by default.

Values come from ``UPNEXT_*`` variables, else from the YAML file that ``UPNEXT_CONFIG`` names, else from the
defaults below. Nothing is read on import: a command builds :class:`Settings` once and passes it on.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from upnext.errors import ConfigError

DATASET = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DATASET_RULE = "use up to 64 of a-z, 0-9, _ and -, the first a letter or digit"


class Settings(BaseSettings):
    """All of Upnext's settings. In a URL, ``{home}`` and ``{state}`` stand for the folders of that name."""

    model_config = SettingsConfigDict(env_prefix="UPNEXT_", extra="forbid", frozen=True)

    home: Path = Path(".upnext")
    """Folder below which the local profile keeps all its state."""
    dataset: str = ""
    """The catalogue in use, one folder each below ``home``; empty: the one last cycled."""

    event_log_url: str = "sqlite:///{state}/events.db"
    feature_log_url: str = "sqlite:///{state}/feature_log.db"
    lake_url: str = "{state}/lake"
    history_url: str = "sqlite:///{state}/history.db"
    profiles_url: str = "sqlite:///{state}/platform.db"
    catalogue_url: str = "sqlite:///{state}/platform.db"
    experiments_url: str = "sqlite:///{state}/platform.db"
    online_features_url: str = "lmdb://{state}/online"
    keys_url: str = "sqlite:///{home}/access.db"
    """Keys to the service; one store for all data sets."""
    erasures_url: str = "sqlite:///{state}/platform.db"
    """Pseudonyms of the people who were erased."""
    tracking_url: str = "sqlite:///{home}/mlflow.db"
    ads_url: str = "house:{home}/ads.json"
    """Who says what the ads are: a file of the platform's own, or an HTTP address."""

    secret: SecretStr = SecretStr("")
    """What cursors are signed and pseudonyms are made with, at least 16 characters, the same for all
    processes; empty: a random one in the file ``{home}/secret``."""
    rate_limit: str = "6000 per minute"
    """Requests that each key may send, as ``NUMBER per second|minute|hour``; empty: as many as it likes."""
    rate_limit_url: str = "memory://"
    """Where requests are counted: ``memory://`` in each process, ``redis://…`` for all of them together."""

    event_retention_days: int = Field(default=30, gt=0)
    """Days that an event stays in the log; an older one is refused."""
    history_days: int = Field(default=90, gt=0)
    """Days after which a watched video is forgotten."""
    near_cache_mb: int = Field(default=512, ge=0)
    """Megabytes that serving keeps of what it read from Redis, mostly of videos; 0 keeps nothing."""
    feature_log_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the answers whose features are logged."""
    traces_endpoint: str = ""
    """Where OpenTelemetry traces of requests go, by OTLP over HTTP, such as
    ``http://127.0.0.1:4318/v1/traces``; empty: nowhere."""
    traces_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the requests that are traced, of those whose caller has not decided it."""
    log_format: Literal["text", "json"] = "text"
    """How the service writes its own log: as BentoML does, or as JSON lines."""
    skew_threshold: float = Field(default=0.05, ge=0, le=1)
    """Share of a feature's values that may differ from what the lake says before it is an error."""
    training: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Overrides of a step's configuration, by step: ``{"two_tower": {"epochs": 2}}``."""
    visual_backbone: Path | None = None
    """An ONNX file that turns thumbnails into vectors in place of our own network; input
    float32[n, 3, 64, 64] in [0, 1]. None: a small network is trained."""
    host: str = "127.0.0.1"
    port: int = Field(default=8700, gt=0, lt=65536)

    @field_validator("dataset")
    @classmethod
    def _stay_below_home(cls, dataset: str) -> str:
        if dataset and not DATASET.fullmatch(dataset):
            raise ValueError(_DATASET_RULE)
        return dataset

    @property
    def state(self) -> Path:
        """Folder of the data set in use."""
        return self.home / (self.dataset or self._last_cycled() or "default")

    def url(self, port: str) -> str:
        """The URL of an outside system by its port's name, with folders filled in."""
        template: str = getattr(self, f"{port}_url")
        try:
            return template.format(home=self.home.absolute(), state=self.state.absolute())
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"UPNEXT_{port.upper()}_URL has a placeholder that is neither {{home}} nor {{state}}; "
                "write {{ and }} for braces that are meant"
            ) from error

    def activate(self, dataset: str) -> "Settings":
        """These settings with ``dataset`` in use, which later commands take as their default."""
        if not DATASET.fullmatch(dataset):
            raise ConfigError(f"dataset is {dataset!r}: {_DATASET_RULE}")
        self.home.mkdir(parents=True, exist_ok=True)
        pointer = self._pointer.with_suffix(".new")
        pointer.write_text(dataset)
        pointer.replace(self._pointer)
        return self.model_copy(update={"dataset": dataset})

    @property
    def _pointer(self) -> Path:
        return self.home / "dataset"

    def _last_cycled(self) -> str:
        return self._pointer.read_text().strip() if self._pointer.exists() else ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("UPNEXT_CONFIG")
        written = (YamlConfigSettingsSource(settings_cls, yaml_file=file),) if file else ()
        return (init_settings, env_settings, *written)


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment and the file, with a readable error for a wrong value."""
    file = os.environ.get("UPNEXT_CONFIG")
    if file and not Path(file).is_file():
        raise ConfigError(f"UPNEXT_CONFIG names {file}, which is not a file")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "UPNEXT_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(f"{name} is {first.get('input')!r}: {first['msg']}") from error
    except SettingsError as error:
        raise ConfigError(f"a UPNEXT_* variable does not read as JSON: {error}") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"UPNEXT_CONFIG names {file}, which is no YAML mapping: {reason}") from error
