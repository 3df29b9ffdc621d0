"""Upnext's feature store as Feast sees it, built from the settings instead of from files."""

from feast import FeatureStore, RepoConfig
from feast.repo_config import RegistryConfig

from feature_repo.views import Definitions, definitions
from upnext.settings import Settings

PROJECT = "upnext"


def environment(settings: Settings) -> dict[str, str]:
    """The variables that ``feature_store.yaml`` and ``definitions.py`` read, for Feast's own commands."""
    return {
        "UPNEXT_FEAST_REGISTRY": str(settings.state.absolute() / "feast" / "registry.db"),
        "UPNEXT_FEAST_ONLINE": settings.url("online_features"),
        "UPNEXT_FEAST_LAKE": settings.url("lake"),
    }


def repo_config(settings: Settings) -> RepoConfig:
    """Feast's configuration: registry file, offline store and online store below the state folder."""
    places = environment(settings)
    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry=RegistryConfig(path=places["UPNEXT_FEAST_REGISTRY"]),
        offline_store={"type": "feature_repo.offline_store.LakeOfflineStore"},
        online_store={
            "type": "feature_repo.packed_store.PackedOnlineStore",
            "url": places["UPNEXT_FEAST_ONLINE"],
        },
        entity_key_serialization_version=3,
        repo_path=settings.state.absolute(),
    )


def lake_definitions(settings: Settings) -> Definitions:
    """The definitions over the settings' lake."""
    root = settings.url("lake").rstrip("/")
    return definitions(lambda table: f"{root}/{table}")


def feature_store(settings: Settings) -> FeatureStore:
    """A Feast store with all definitions registered. It opens the online store when that is first used."""
    store = FeatureStore(config=repo_config(settings))
    store.apply(lake_definitions(settings).objects)
    return store
