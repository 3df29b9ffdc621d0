"""Why each video is in the slate: a code, a text, and evidence that is in the viewer's own data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from serving.candidates import UNRANKED, Pool
from serving.postrank import Slate
from serving.viewer import Viewer
from upnext.contracts import Reason

TEXTS: Mapping[str, str] = {
    "explore": "New here: tell us what you think",
    "related": "More like {what}",
    "because_you_watched": "Because you watched {what}",
    "because_you_liked_topic": "More {what}, which you watch",
    "your_topic": "From your topics: {what}",
    "creator_you_watch": "From {what}, whom you watch",
    "search": "Matches your search for “{what}”",
    "trending_region": "Popular in {what}",
    "trending": "Popular now",
    "new": "New upload",
    "for_you": "Picked for you",
    "popular": "Popular now",
}
"""Texts by code; ``{what}`` is the evidence in words. A translation replaces this table."""

SPOKEN: Mapping[str, float] = {
    "search": 0.1,
    "because_you_watched": 1.0,
    "creators": 1.0,
    "als": 1.0,
    "two_tower": 1.0,
    "topics": 1.5,
    "trending": 3.0,
    "new": 3.0,
}
"""What a retriever's rank is multiplied by when reasons compete: a personal reason beats a general one."""
SPECIFIC = frozenset({"als", "two_tower", "because_you_watched"})
"""Retrievers whose reason is the video of the past that speaks most for a candidate."""


@dataclass(frozen=True)
class Similarity:
    """Item vectors float32[n, d] of unit length: how much a video of the past speaks for a candidate."""

    vectors: NDArray[np.float32]

    def strongest(self, rows: NDArray[np.int32], viewer: Viewer) -> NDArray[np.int32]:
        """Per candidate row, int32[k]: the liked video of the past with the largest strength · cosine, -1 if none."""
        liked = viewer.strength > 0
        past = viewer.seen[liked]
        if not len(past):
            return np.full(len(rows), -1, np.int32)
        votes = (self.vectors[rows] @ self.vectors[past].T) * viewer.strength[liked]
        votes = np.where(rows[:, None] == past[None, :], -np.inf, votes)
        best = votes.argmax(axis=1)
        return np.where(votes[np.arange(len(rows)), best] > 0, past[best], -1).astype(np.int32)


def explain(
    slate: Slate, pool: Pool, viewer: Viewer, catalogue: Catalogue, similarity: Similarity
) -> list[Reason]:
    """One reason per item of the slate."""
    if not len(slate):
        return []
    ranks = pool.ranks[:, slate.place].astype(np.float64)
    scale = np.asarray([SPOKEN.get(name, 2.0) for name in pool.names])[:, None]
    spoken = np.where(ranks < UNRANKED, (1 + ranks) * scale, np.inf)
    winner = spoken.argmin(axis=0) if len(pool.names) else np.zeros(len(slate), np.int64)
    evidence = pool.evidence[winner, slate.place] if len(pool.names) else np.full(len(slate), -1)
    liked = similarity.strongest(slate.rows, viewer)
    return [
        _explored()
        if slate.explored[at]
        else _reason(
            pool.names[winner[at]] if pool.names else "",
            slate.rows[at],
            evidence[at],
            liked[at],
            viewer,
            catalogue,
        )
        for at in range(len(slate))
    ]


def _reason(source: str, row: int, evidence: int, liked: int, viewer: Viewer, catalogue: Catalogue) -> Reason:
    if viewer.seed >= 0 and source in {"because_you_watched", "creators", "topics"}:
        return _of("related", _title(catalogue, viewer.seed), str(catalogue.ids[viewer.seed]))
    if source == "search":
        return _of("search", viewer.query, viewer.query)
    if source == "creators" and evidence >= 0:
        creator = catalogue.creators[catalogue.creator[row]]
        return _of("creator_you_watch", creator, creator)
    if source == "topics":
        category = catalogue.categories[catalogue.category[row]]
        return _of("because_you_liked_topic" if evidence >= 0 else "your_topic", category, category)
    if source in SPECIFIC:
        because = evidence if source == "because_you_watched" else liked
        if because >= 0:
            return _of("because_you_watched", _title(catalogue, because), str(catalogue.ids[because]))
        return _of("for_you")
    if source == "trending":
        return _of("trending_region", viewer.region, viewer.region) if viewer.region else _of("trending")
    return _of("new") if source == "new" else _of("popular")


def _of(code: str, what: str | None = None, because_of: str | None = None) -> Reason:
    return Reason(code=code, text=TEXTS[code].format(what=what), because_of=because_of)


def _explored() -> Reason:
    return _of("explore")


def _title(catalogue: Catalogue, row: int) -> str:
    """A video's title, else its id."""
    return str(catalogue.table["title"][int(row)].as_py() or catalogue.ids[row])


def codes() -> Sequence[str]:
    """Every reason that may be given."""
    return tuple(TEXTS)
