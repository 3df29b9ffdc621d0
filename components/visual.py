"""Step ``visual``: thumbnails -> the lake's table ``visual_embeddings``."""

from collections.abc import Sequence
from dataclasses import asdict

from components.pipeline import Job, Outcome
from components.progress import progress
from components.visual_table import CHUNK
from feature_repo.vectors import VISUAL_TABLE
from upnext.sources import open_source
from upnext.sources.base import Pictured
from upnext.stores import connect


def visual(job: Job) -> Outcome:
    """Thumbnails -> a vector for each video that has one; nothing to do where the source has none."""
    source = open_source(job.source, job.settings)
    with connect(job.settings) as stores, progress("thumbnails") as told:
        ids = stores.lake.read("videos", ["video_id"])["video_id"].sort()
        if not isinstance(source, Pictured) or not _any(source, ids.to_pylist()):
            return Outcome({"videos": 0.0})
        # torch takes seconds to load, and most sources have no pictures.
        from components.visual_network import Work
        from models.visual import VisualConfig

        config = job.config("visual", VisualConfig)
        result = Work(job, stores.lake, source, config, told).run()
        versions = {VISUAL_TABLE: stores.lake.version(VISUAL_TABLE)}
    figures = {"videos": result.known, "embedded": result.embedded, "refused": result.refused}
    return Outcome(
        {name: float(value) for name, value in figures.items()} | {"loss": result.loss},
        asdict(config),
        versions,
        {"network": result.network, "trained": result.trained},
    )


def _any(source: Pictured, ids: Sequence[str]) -> bool:
    chunks = (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))
    return any(source.thumbnails(some).there.any() for some in chunks)
