"""The outside systems of one installation, each opened on first use by the adapter of its URL's scheme.

>>> with connect(load_settings()) as stores:  # doctest: +SKIP
...     stores.catalogue.count()
"""

from collections.abc import Mapping
from importlib import import_module
from threading import RLock
from types import TracebackType
from typing import Any, Self, cast

from upnext.errors import ConfigError
from upnext.ports import (
    Catalogue,
    Erasures,
    EventLog,
    Experiments,
    FeatureLog,
    Keys,
    Lake,
    OnlineFeatures,
    Port,
    Profiles,
    WatchHistory,
)
from upnext.settings import Settings
from upnext.stores.urls import masked, scheme

SQL_PORTS = ("profiles", "catalogue", "keys", "erasures", "experiments")
"""Ports that SQLAlchemy serves, whose tables ``upnext migrate`` keeps up to date."""
ADAPTERS: Mapping[str, Mapping[str, str]] = {
    "event_log": {"sqlite": "upnext.stores.sqlite_event_log:SqliteEventLog"},
    "feature_log": {"sqlite": "upnext.stores.sqlite_feature_log:SqliteFeatureLog"},
    "lake": dict.fromkeys(("", "file", "s3"), "upnext.stores.delta_lake:DeltaLake"),
    "history": {"sqlite": "upnext.stores.sqlite_history:SqliteHistory"},
    **{
        port: dict.fromkeys(("sqlite", "postgresql"), f"upnext.stores.sql_{port}:Sql{port.title()}")
        for port in SQL_PORTS
    },
    "online_features": {
        "lmdb": "upnext.stores.lmdb_features:LmdbFeatures",
        **dict.fromkeys(("redis", "rediss"), "upnext.stores.redis_features:RedisFeatures"),
    },
}
"""Port -> URL scheme ("" is a plain folder) -> adapter, a class with ``open(url, settings)``. Strings, so
that a system's library is imported only where that system is used."""


def adapter(port: str, settings: Settings) -> Any:
    """The class that speaks to a port's system; ConfigError when no adapter knows the URL's scheme."""
    url = settings.url(port)
    known = ADAPTERS[port]
    if scheme(url) not in known:
        forms = ", ".join(f"{name}://" if name else "a folder" for name in known)
        raise ConfigError(
            f"UPNEXT_{port.upper()}_URL is {masked(url)!r}: nothing here speaks {scheme(url)!r}; use {forms}"
        )
    module, name = known[scheme(url)].split(":")
    return getattr(import_module(module), name)


class Stores:
    """One lazily opened attribute per port; closes what it opened. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opened: dict[str, Port] = {}
        self._lock = RLock()

    @property
    def event_log(self) -> EventLog:
        return cast(EventLog, self.open("event_log"))

    @property
    def feature_log(self) -> FeatureLog:
        return cast(FeatureLog, self.open("feature_log"))

    @property
    def lake(self) -> Lake:
        return cast(Lake, self.open("lake"))

    @property
    def history(self) -> WatchHistory:
        return cast(WatchHistory, self.open("history"))

    @property
    def profiles(self) -> Profiles:
        return cast(Profiles, self.open("profiles"))

    @property
    def catalogue(self) -> Catalogue:
        return cast(Catalogue, self.open("catalogue"))

    @property
    def keys(self) -> Keys:
        return cast(Keys, self.open("keys"))

    @property
    def erasures(self) -> Erasures:
        return cast(Erasures, self.open("erasures"))

    @property
    def experiments(self) -> Experiments:
        return cast(Experiments, self.open("experiments"))

    @property
    def online_features(self) -> OnlineFeatures:
        return cast(OnlineFeatures, self.open("online_features"))

    def open(self, port: str) -> Port:
        """A port's adapter by the port's name, opened when this is its first use."""
        with self._lock:
            if port not in self._opened:
                opened: Port = adapter(port, self.settings).open(self.settings.url(port), self.settings)
                self._opened[port] = opened
            return self._opened[port]

    def close(self) -> None:
        """Close what was opened, newest first; a port used afterwards is opened again."""
        with self._lock:
            while self._opened:
                _, opened = self._opened.popitem()
                opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(settings: Settings) -> Stores:
    """The outside systems that the settings name. Opens none of them yet."""
    return Stores(settings)
