"""A board with a known answer, and every retriever fitted on it: what ``test_retrievers.py`` holds them to.

Viewer u has watched videos of colour u % 2 only. Colour is also a video's category, a word of its title and
the parity of its creator, and each colour is watched in a region of its own. So whatever a retriever goes by,
it should bring the viewer's colour first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.als import AlsConfig, AlsModel
from models.catalogue import Catalogue
from models.dataset import Interactions
from models.index import ExactIndex
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.tower_export import export
from models.towers import Towers
from models.two_tower import TwoTowerConfig, train
from serving import retrievers
from serving.groups import Groups
from serving.retrievers import Retriever
from serving.search import TextIndex
from serving.trending import LiveCounts, Trending
from serving.viewer import Crowd, Viewer, pasts
from tests.support.videos import NOW, catalogue_of, viewer_of

VIDEOS, USERS, WATCHED = 40, 60, 8
COLOURS = ("red", "blue")
TOWERS = TwoTowerConfig(
    width=16,
    embedding=8,
    heads=2,
    length=8,
    samples=2000,
    epochs=20,
    batch=64,
    uniform=16,
    learning_rate=5e-3,
)
NAMES = ("als", "two_tower", "trending", "new", "creators", "topics", "because_you_watched", "search")


@dataclass(frozen=True)
class Board:
    """The retrievers and the viewers; the last viewer is a stranger."""

    folder: Path

    @cached_property
    def catalogue(self) -> Catalogue:
        colour = [COLOURS[i % 2] for i in range(VIDEOS)]
        return catalogue_of(
            VIDEOS,
            category=colour,
            title=[f"A {name} clip" for name in colour],
            creator_id=[f"c{i % 8}" for i in range(VIDEOS)],
        )

    @cached_property
    def log(self) -> Interactions:
        """Each user's watches, an hour apart, the newest an hour ago."""
        rng = np.random.default_rng(1)
        taste = [rng.permutation(np.arange(u % 2, VIDEOS, 2))[:WATCHED] for u in range(USERS)]
        video = np.concatenate(taste).astype(np.int32)
        user = np.repeat(np.arange(USERS), WATCHED).astype(np.int32)
        ts = NOW - 3_600_000_000 * np.tile(np.arange(WATCHED, 0, -1), USERS)
        return Interactions(
            user, video, ts, np.ones(len(user), np.float32), np.full(len(user), np.nan, np.float32), USERS
        )

    @cached_property
    def als(self) -> AlsModel:
        return AlsModel.fit(self.log, VIDEOS, AlsConfig(factors=8, iterations=8, threads=1))

    @cached_property
    def towers(self) -> Towers:
        return export(train(self.log, self.catalogue, TOWERS), self.folder)

    @cached_property
    def viewers(self) -> list[Viewer]:
        people = []
        for user in range(5):
            seen = self.log.video[self.log.user == user][::-1]
            colour = COLOURS[user % 2]
            people.append(viewer_of(seen, region=colour, query=colour))
        return [*people, viewer_of()]

    @cached_property
    def crowd(self) -> Crowd:
        histories = pasts(self.viewers)
        return Crowd(self.viewers, histories, self.als.fold_in(histories), self.towers.encode(histories))

    def retriever(self, name: str) -> Retriever:
        makers: Mapping[str, Callable[[], Retriever]] = {
            "als": lambda: retrievers.Nearest(lambda crowd: crowd.als, ExactIndex.build(self.als.factors)),
            "two_tower": lambda: retrievers.Nearest(
                lambda crowd: crowd.tower, ExactIndex.build(self.towers.items)
            ),
            "trending": lambda: retrievers.TrendingNow(self._trending()),
            "new": lambda: retrievers.NewReleases(self.catalogue),
            "creators": lambda: self._group(self.catalogue.creator, len(self.catalogue.creators)),
            "topics": lambda: self._group(self.catalogue.category, len(self.catalogue.categories)),
            "because_you_watched": self._because_you_watched,
            "search": lambda: retrievers.SearchIntent(TextIndex.of(self.catalogue)),
        }
        return makers[name]()

    def answer(self, name: str, place: int) -> set[int]:
        """Rows that may come first for a viewer: those of their colour; of new releases, the newest."""
        if name == "new":
            return set(range(VIDEOS - 5, VIDEOS))
        return set(range(place % 2, VIDEOS, 2))

    def _group(self, codes: np.ndarray, groups: int) -> Retriever:
        merit = np.arange(VIDEOS, dtype=np.float32)
        return retrievers.SameGroup(codes, Groups.by(codes, merit, self.catalogue.active, groups))

    def _because_you_watched(self) -> Retriever:
        found = Neighbours.fit(self.log, VIDEOS, k=10)
        return retrievers.BecauseYouWatched(found.rows, found.scores)

    def _trending(self) -> Trending:
        by_colour = np.stack([np.arange(VIDEOS) % 2 == colour for colour in range(2)])
        counts = np.concatenate([np.ones((1, VIDEOS)), by_colour * np.linspace(1, 2, VIDEOS)])
        return Trending(self.catalogue, Popularity(counts.astype(np.float32), COLOURS, NOW), LiveCounts())
