"""Where data comes from: ``open_source("kind:rest")`` reads a public set, a company's files, or the world.

Each kind's module is imported when it is asked for, and only then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from upnext.errors import ConfigError

if TYPE_CHECKING:
    from upnext.settings import Settings
    from upnext.sources.base import Source

KINDS = {
    "kuairand": ("upnext.sources.kuairand:KuaiRandSource", "kuairand:DIR, KuaiRand in its official layout"),
    "kuairec": ("upnext.sources.kuairec:KuaiRecSource", "kuairec:DIR, KuaiRec, official layout or pairs"),
    "movielens": ("upnext.sources.movielens:MovieLensSource", "movielens:DIR, MovieLens 100k, 1M or CSV"),
    "files": ("upnext.sources.files:FilesSource", "files:DIR, your own events, videos and users"),
    "world": ("upnext.sources.world:WorldSource", "world:, the simulated platform"),
    "log": ("upnext.sources.log:LogSource", "log:, what the service has collected"),
}
"""Kind -> (class, one line of help). Strings, so that listing the kinds imports none of them."""


def open_source(spec: str, settings: "Settings | None" = None) -> "Source":
    """The source that a spec such as ``kuairand:data/kuairand_pure`` names.

    settings is needed by ``log:`` alone, which reads the platform's own event log. ConfigError for a kind
    that nobody knows, MissingData for a folder or file that is not there.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in KINDS:
        known = "; ".join(text for _, text in KINDS.values())
        raise ConfigError(f"source {spec!r} is of no known kind. Known: {known}")
    module, name = KINDS[kind][0].split(":")
    opener = getattr(import_module(module), name)
    if kind == "log":
        if settings is None:
            raise ConfigError("source 'log:' needs settings: they say where the event log is")
        return cast("Source", opener(rest, settings))
    return cast("Source", opener(rest))
