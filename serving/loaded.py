"""A release ready to serve: its funnel, its clock and the stores that it reads."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_repo.packed import PackedFeatures, spec_defaults
from feature_repo.specs import USER_VIEW
from models.bundle import Bundle
from models.history import Histories
from serving.clock import Clock
from serving.funnel import Funnel
from serving.paging import MarkIndex, Page, marks_of
from serving.viewer import SEEN, Viewer, ViewerStores
from upnext.errors import NotFound, ReleaseError
from upnext.times import microseconds


class Registry(Protocol):
    """What is asked of the registry of releases (:class:`upnext.releases.Releases`)."""

    def version(self, alias: str) -> str | None: ...

    def resolve(self, ref: str) -> Any: ...


@dataclass(frozen=True)
class Loaded:
    """One release ready to serve: a request takes it once and keeps it to its end."""

    version: str
    funnel: Funnel
    clock: Clock
    stores: ViewerStores
    features: PackedFeatures

    @property
    def bundle(self) -> Bundle:
        return self.funnel.bundle

    @cached_property
    def mark_index(self) -> MarkIndex:
        return MarkIndex.of(self.bundle.catalogue.ids.tolist())

    def left_out(self, page: Page) -> NDArray[np.int32] | None:
        """int32[e], rows that a page must not show; None for the first page of a feed."""
        if not len(page.exclude) and not len(page.shown):
            return None
        named = self.bundle.catalogue.rows(page.exclude)
        return np.concatenate([named[named >= 0], self.mark_index.find(page.shown)])

    @cached_property
    def unknown(self) -> NDArray[np.float32]:
        """float32[du], the features of a viewer of whom nothing is known."""
        defaults = spec_defaults(USER_VIEW, self.bundle.manifest.layouts[USER_VIEW])
        defaults.flags.writeable = False
        return defaults

    def row(self, video_id: str) -> int:
        """The catalogue row of a video; NotFound when this release lacks it."""
        row = int(self.bundle.catalogue.rows([video_id])[0])
        if row < 0:
            raise NotFound(
                f"video_id is {video_id!r}, which release {self.version} does not know: "
                "send the id of a video in the catalogue"
            )
        return row

    def prime(self) -> None:
        """Make the table that pages look into, so that no request has to."""
        self.left_out(Page(shown=marks_of([""])))

    def warm(self) -> None:
        """Run the whole funnel once without deadlines, so that the first viewer does not wait for tables."""
        funnel, now = self.funnel, microseconds(self.clock.now())
        funnel.trending.prime()
        past = Histories.empty(1, SEEN)
        videos = len(self.bundle.catalogue)
        past.rows[0, : min(5, videos)] = np.arange(min(5, videos))
        past.strength[0, : min(5, videos)] = 1.0
        viewer = Viewer("", now, past, self.unknown)
        crowd = funnel.crowd([viewer])
        found = {name: each.retrieve(crowd, 300)[0] for name, each in funnel.retrievers.items()}
        pool = funnel.pool(viewer, found, funnel.situation(viewer, 30))
        ranked = funnel.ranker.rank(crowd, pool.rows)
        self.prime()
        if not np.isfinite(ranked.utility).all():
            raise ReleaseError(f"release {self.version} scores videos nan: it is not used; train again")
