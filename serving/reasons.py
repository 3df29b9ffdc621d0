"""Why each video is in the slate: a code, a text, and evidence that is in the viewer's own data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from models.als import FOLDED, AlsModel
from models.catalogue import Catalogue
from models.crosses import LENGTH
from models.hashing import unit
from models.stacked import Vectors
from serving.candidates import UNRANKED, Pool
from serving.postrank import Slate
from serving.texts import texts
from serving.viewer import Viewer
from upnext.contracts import Reason

NEW_S = 7 * 86_400.0
"""Seconds after its upload for which a creator's video is called new."""
TRACE = 1e-6
"""A vote below this is rounding."""
WEIGHT: Mapping[str, float] = {
    "search": 0.1,
    "topics": 1.5,
    "trending": 4.0,
    "new": 4.0,
    "uploads": 4.0,
    "popular": 8.0,
}
"""What a retriever's rank is multiplied by when reasons compete, 1 for the others: personal beats general."""


@dataclass(frozen=True)
class Evidence:
    """Which video of a viewer's past speaks most for another, by the model that found it."""

    als: AlsModel
    directions: Vectors
    """float32[n, d], the towers'."""

    def of_als(self, rows: NDArray[np.int32], viewer: Viewer) -> NDArray[np.int32]:
        """int32[k]: the entry that adds most to each row's score, exactly; -1 where none adds anything."""
        past = viewer.past.newest(FOLDED)
        known = rows < len(self.als.factors)
        votes = np.zeros((len(rows), past.rows.shape[1]), np.float32)
        votes[known] = self.als.contributions(past, rows[known])
        return self._greatest(votes, past.rows[0], rows)

    def of_towers(self, rows: NDArray[np.int32], viewer: Viewer) -> NDArray[np.int32]:
        """int32[k]: the liked entry with the largest strength · cosine; -1 where none points that way."""
        past = viewer.past.newest(LENGTH)
        cosines = unit(self.directions[rows]) @ unit(self.directions[past.rows[0]]).T
        votes = cosines * np.maximum(past.strength[0], 0)
        return self._greatest(votes, past.rows[0], rows)

    @staticmethod
    def _greatest(
        votes: NDArray[np.float32], past: NDArray[np.int32], rows: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        votes = np.where((past < 0) | (past == rows[:, None]), 0, votes)
        best = votes.argmax(axis=1)
        return np.where(votes[np.arange(len(rows)), best] > TRACE, past[best], -1).astype(np.int32)


@dataclass(frozen=True)
class Claim:
    """What a reason may rest on. Rows of the catalogue; -1 for none."""

    row: int
    """The video that is explained."""
    evidence: int
    """What its retriever found it by."""
    watched: int
    """The video of the past that speaks most for it, by the model that found it."""


def explain(
    slate: Slate, pool: Pool, viewer: Viewer, catalogue: Catalogue, evidence: Evidence
) -> list[Reason]:
    """One reason per item of the slate: of the retrievers that found it, the one whose reason says most."""
    if not len(slate):
        return []
    ranks = pool.ranks[:, slate.place].astype(np.float64)
    weight = np.asarray([WEIGHT.get(name, 1.0) for name in pool.names])[:, None]
    source = np.where(ranks < UNRANKED, (1 + ranks) * weight, np.inf).argmin(axis=0)
    because = pool.evidence[source, slate.place]
    by = np.asarray(pool.names)[source]
    watched = np.where(by == "because_you_watched", because, -1)
    for name, loudest in (("als", evidence.of_als), ("two_tower", evidence.of_towers)):
        found = by == name
        if found.any():
            watched[found] = loudest(slate.rows[found], viewer)
    told = Explainer.citing(np.append(watched, viewer.seed), viewer, catalogue)
    columns = (slate.rows, because, watched)
    return [
        told.say("explore") if explored else told.by(name, Claim(*claim))
        for explored, name, *claim in zip(
            slate.explored.tolist(), by.tolist(), *(c.tolist() for c in columns), strict=True
        )
    ]


@dataclass(frozen=True)
class Explainer:
    """Turns what a retriever claims about a video into a reason, in the viewer's language."""

    viewer: Viewer
    catalogue: Catalogue
    cited: Mapping[int, Mapping[str, Any]]
    """Row -> ``video_id`` and ``title`` of the videos that a reason may name."""

    @classmethod
    def citing(cls, rows: NDArray[np.integer], viewer: Viewer, catalogue: Catalogue) -> "Explainer":
        """One who may name the videos in some rows, -1 for none."""
        known = np.unique(rows[rows >= 0])
        documents = catalogue.documents(known, ("video_id", "title"))
        return cls(viewer, catalogue, dict(zip(known.tolist(), documents, strict=True)))

    def by(self, source: str, claim: Claim) -> Reason:
        seed = self.viewer.seed
        if seed >= 0 and claim.evidence == seed:
            of_past = self.viewer.surface == "because_you_watched"
            code = "because_you_watched" if of_past else "related"
            return self.say(code, self._title(seed), self._id(seed))
        return self.TELLERS[source](self, claim)

    def say(self, code: str, what: str | None = None, because_of: str | None = None) -> Reason:
        return say(code, self.viewer.language, what, because_of)

    def _watched(self, claim: Claim) -> Reason:
        if claim.watched >= 0:
            return self.say("because_you_watched", self._title(claim.watched), self._id(claim.watched))
        return self.say("start_here" if self.viewer.cold else "for_you")

    def _creator(self, claim: Claim) -> Reason:
        creator = self.catalogue.creators[self.catalogue.creator[claim.row]]
        age_s = (self.viewer.now - self.catalogue.uploaded_at[claim.row]) / 1e6
        return self.say("new_from_creator" if age_s < NEW_S else "creator_you_watch", creator, creator)

    def _topic(self, claim: Claim) -> Reason:
        category = self.catalogue.categories[self.catalogue.category[claim.row]]
        code = "topic_you_watch" if claim.evidence >= 0 else "topic_you_chose"
        return self.say(code, category, category)

    def _trending(self, _: Claim) -> Reason:
        region = self.viewer.region
        return self.say("popular_in_region", region, region) if region else self.say("trending")

    def _search(self, _: Claim) -> Reason:
        return self.say("search", self.viewer.query, self.viewer.query)

    def _one_topic(self, _: Claim) -> Reason:
        return self.say("topic", self.viewer.topics[0], self.viewer.topics[0])

    def _new(self, _: Claim) -> Reason:
        return self.say("new")

    def _popular(self, _: Claim) -> Reason:
        return self.say("popular")

    def _id(self, row: int) -> str:
        return str(self.cited[row]["video_id"])

    def _title(self, row: int) -> str:
        """A video's title, else its id."""
        return str(self.cited[row]["title"] or self._id(row))

    TELLERS: ClassVar[Mapping[str, Callable[["Explainer", Claim], Reason]]] = {
        "because_you_watched": _watched,
        "als": _watched,
        "two_tower": _watched,
        "creators": _creator,
        "topics": _topic,
        "search": _search,
        "new": _new,
        "latest": _new,
        "uploads": _new,
        "topic": _one_topic,
        "trending": _trending,
        "popular": _popular,
    }
    """Retriever -> how its claims are told."""


def say(code: str, language: str | None, what: str | None = None, because_of: str | None = None) -> Reason:
    """A reason with its text in a language."""
    return Reason(code=code, text=texts(language)[code].format(what=what), because_of=because_of)
