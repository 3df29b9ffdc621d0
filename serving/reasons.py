"""Why each video is in the slate: a code, a text, and evidence that is in the viewer's own data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from serving.candidates import UNRANKED, Pool
from serving.postrank import Slate
from serving.viewer import Viewer
from upnext.contracts import Reason

TEXTS: Mapping[str, str] = {
    "because_you_watched": "Because you watched {what}",
    "creator_you_watch": "From {what}, whom you watch",
    "explore": "New here: be among the first to watch",
    "for_you": "Picked for you",
    "new": "New upload",
    "popular": "Popular now",
    "popular_in_region": "Popular in {what}",
    "related": "More like {what}",
    "search": "Matches your search for “{what}”",
    "start_here": "A good place to start",
    "topic": "In {what}",
    "topic_you_chose": "From your topics: {what}",
    "topic_you_watch": "More {what}, which you watch",
}
"""Texts by code; ``{what}`` is the evidence in words. A translation replaces this table."""

WEIGHT: Mapping[str, float] = {"search": 0.1, "topics": 1.5, "trending": 4.0, "new": 4.0, "popular": 8.0}
"""What a retriever's rank is multiplied by when reasons compete, 1 for the others: personal beats general."""


@dataclass(frozen=True)
class Similarity:
    """How much one video speaks for another. vectors: float32[n, d] of unit length."""

    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, factors: NDArray[np.float32]) -> "Similarity":
        lengths = np.linalg.norm(factors, axis=1, keepdims=True)
        return cls((factors / np.where(lengths > 0, lengths, 1)).astype(np.float32))

    def strongest(self, rows: NDArray[np.int32], viewer: Viewer) -> NDArray[np.int32]:
        """int32[k]: per row the liked video of the past with the largest strength · cosine, -1 for none."""
        liked = viewer.strength > 0
        past = viewer.seen[liked]
        if not len(past):
            return np.full(len(rows), -1, np.int32)
        votes = (self.vectors[rows] @ self.vectors[past].T) * viewer.strength[liked]
        votes = np.where(rows[:, None] == past[None, :], -np.inf, votes)
        best = votes.argmax(axis=1)
        return np.where(votes[np.arange(len(rows)), best] > 0, past[best], -1).astype(np.int32)


@dataclass(frozen=True)
class Claim:
    """What a reason may rest on. Rows of the catalogue; -1 for none."""

    row: int
    """The video that is explained."""
    evidence: int
    """What its retriever found it by."""
    liked: int
    """The video of the past that speaks most for it."""


def explain(
    slate: Slate, pool: Pool, viewer: Viewer, catalogue: Catalogue, similarity: Similarity
) -> list[Reason]:
    """One reason per item of the slate: of the retrievers that found it, the one whose reason says most."""
    if not len(slate):
        return []
    ranks = pool.ranks[:, slate.place].astype(np.float64)
    weight = np.asarray([WEIGHT.get(name, 1.0) for name in pool.names])[:, None]
    source = np.where(ranks < UNRANKED, (1 + ranks) * weight, np.inf).argmin(axis=0)
    evidence = pool.evidence[source, slate.place].tolist()
    liked = similarity.strongest(slate.rows, viewer).tolist()
    told = Explainer(viewer, catalogue)
    return [
        say("explore")
        if slate.explored[at]
        else told.by(pool.names[source[at]], Claim(row, evidence[at], liked[at]))
        for at, row in enumerate(slate.rows.tolist())
    ]


@dataclass(frozen=True)
class Explainer:
    """Turns what a retriever claims about a video into a reason."""

    viewer: Viewer
    catalogue: Catalogue

    def by(self, source: str, claim: Claim) -> Reason:
        seed = self.viewer.seed
        if seed >= 0 and claim.evidence == seed:
            shelf = self.viewer.surface
            code = "because_you_watched" if shelf == "because_you_watched" else "related"
            return say(code, self._title(seed), self._id(seed))
        tellers: Mapping[str, Callable[[Claim], Reason]] = {
            "because_you_watched": lambda claim: self._watched(claim.evidence),
            "als": lambda claim: self._watched(claim.liked),
            "two_tower": lambda claim: self._watched(claim.liked),
            "creators": self._creator,
            "topics": self._topic,
            "search": lambda _: say("search", self.viewer.query, self.viewer.query),
            "new": lambda _: say("new"),
            "latest": lambda _: say("new"),
            "topic": lambda _: say("topic", self.viewer.topics[0], self.viewer.topics[0]),
            "trending": self._trending,
            "popular": lambda _: say("popular"),
        }
        return tellers[source](claim)

    def _watched(self, row: int) -> Reason:
        if row >= 0:
            return say("because_you_watched", self._title(row), self._id(row))
        return say("start_here" if self.viewer.cold else "for_you")

    def _creator(self, claim: Claim) -> Reason:
        creator = self.catalogue.creators[self.catalogue.creator[claim.row]]
        return say("creator_you_watch", creator, creator)

    def _topic(self, claim: Claim) -> Reason:
        category = self.catalogue.categories[self.catalogue.category[claim.row]]
        return say("topic_you_watch" if claim.evidence >= 0 else "topic_you_chose", category, category)

    def _trending(self, _: Claim) -> Reason:
        region = self.viewer.region
        return say("popular_in_region", region, region) if region else say("popular")

    def _id(self, row: int) -> str:
        return str(self.catalogue.ids[row])

    def _title(self, row: int) -> str:
        """A video's title, else its id."""
        return str(self.catalogue.table["title"][row].as_py() or self._id(row))


def say(code: str, what: str | None = None, because_of: str | None = None) -> Reason:
    """A reason with its text."""
    return Reason(code=code, text=TEXTS[code].format(what=what), because_of=because_of)
