"""Who chooses what a viewer is shown: the funnel, a part of it, the funnel without a part, or a baseline.

funnel             what serves
popularity         what is popular in the viewer's region
random             any video
retriever:NAME     one retriever alone, in its own order
without:NAME       the funnel without one retriever
without:ranker     the funnel in the order of retrieval
without:session    the funnel blind to the session under way; the caller leaves that out of the viewer
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from serving import postrank
from serving.candidates import Candidates
from serving.funnel import RETRIEVERS, Funnel, signals
from serving.postrank import HOME, SHELF, Slate
from serving.viewer import Crowd, Viewer
from upnext.errors import ConfigError

TOGETHER = 256
"""Viewers whose retrieval is one matrix product."""
BASELINES = ("popularity", "random")
SCORES_ANY = ("funnel", *BASELINES)
"""Policies that have a score for every video, and so can order given ones."""
PARTS = (*RETRIEVERS, "ranker", "session")


@dataclass(frozen=True)
class Picks:
    """What one viewer is given, best first.

    rows: int32[k], of the catalogue; scores: float32[k]; heads: name -> float32[k], where a ranker gave them;
    signals: the same of what an order was blended from, where the funnel was left at it.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    heads: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    signals: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """A policy by name; ``part`` is what ``retriever:`` and ``without:`` name."""

    name: str
    kind: str
    part: str = ""

    @classmethod
    def parse(cls, name: str) -> "Policy":
        """ConfigError, naming what there is, for a name that means nothing."""
        kind, _, part = name.partition(":")
        parts = {"retriever": RETRIEVERS, "without": PARTS}.get(kind, ("",) if kind in SCORES_ANY else ())
        if part not in parts:
            raise ConfigError(
                f"policy {name!r} is not known: it is one of {', '.join(SCORES_ANY)}, or retriever:NAME or "
                f"without:NAME with NAME one of {', '.join(RETRIEVERS)}; without: also knows ranker, session"
            )
        return cls(name, kind, part)


def choose(
    funnel: Funnel,
    viewers: Sequence[Viewer],
    policy: Policy,
    stage: str,
    count: int,
    excluded: Sequence[NDArray[np.int32]] | None = None,
    salt: str = "",
) -> Iterator[Picks]:
    """Each viewer's first ``count``, in the viewers' order; the funnel may be left after an earlier stage.

    excluded: rows int32[*] that each viewer must not be given. salt: another one makes other random choices.
    """
    barred = excluded or [np.empty(0, np.int32)] * len(viewers)
    for start in range(0, len(viewers), TOGETHER):
        some = slice(start, start + TOGETHER)
        if policy.kind in BASELINES:
            yield from _by_score(funnel, viewers[some], policy, count, barred[some], salt)
        else:
            yield from _by_funnel(funnel, viewers[some], policy, stage, count, barred[some], salt)


def whole_catalogue(funnel: Funnel, viewer: Viewer, kind: str, salt: str = "") -> NDArray[np.float32]:
    """A baseline's scores of all videos, float32[n]."""
    if kind == "popularity":
        return funnel.bundle.popularity.scores(viewer.region)
    return np.random.default_rng(_seed(viewer, salt)).random(len(funnel.bundle.catalogue), np.float32)


def _by_score(
    funnel: Funnel,
    viewers: Sequence[Viewer],
    policy: Policy,
    count: int,
    barred: Sequence[NDArray[np.int32]],
    salt: str,
) -> Iterator[Picks]:
    everything = np.arange(len(funnel.bundle.catalogue), dtype=np.int32)
    for viewer, exclude in zip(viewers, barred, strict=True):
        situation = funnel.situation(viewer, count, exclude=exclude)
        scored = Slate.of(everything, whole_catalogue(funnel, viewer, policy.kind, salt))
        slate = postrank.apply(SHELF, scored, situation)
        yield Picks(slate.rows, slate.score)


def _by_funnel(
    funnel: Funnel,
    viewers: Sequence[Viewer],
    policy: Policy,
    stage: str,
    count: int,
    barred: Sequence[NDArray[np.int32]],
    salt: str,
) -> Iterator[Picks]:
    crowd = funnel.crowd(viewers)
    found = _retrieved(funnel, crowd, policy)
    alone = policy.kind == "retriever"
    unranked = alone or policy.part == "ranker"
    for place, viewer in enumerate(viewers):
        situation = funnel.situation(viewer, count, _seed(viewer, salt), barred[place])
        mine = {name: each[place] for name, each in found.items()}
        if alone and stage == "retrieval":
            only = mine[policy.part]
            only = only.where(postrank.permitted(only.rows, situation) & ~np.isin(only.rows, viewer.seen))
            yield Picks(only.rows[:count], only.scores[:count])
            continue
        pool = funnel.pool(viewer, mine, situation)
        if stage == "retrieval":
            yield Picks(pool.rows[:count], pool.fused[:count])
            continue
        ranked = None if unranked else funnel.ranker.rank(crowd[place : place + 1], pool.rows)
        rules = (postrank.by_score,) if stage == "ranking" else SHELF if alone else HOME
        slate = funnel.slate(pool, ranked, viewer, situation, rules)
        said = signals(pool, ranked) if ranked and stage == "ranking" else {}
        yield Picks(slate.rows, slate.score, signals={name: each[slate.place] for name, each in said.items()})


def _retrieved(funnel: Funnel, crowd: Crowd, policy: Policy) -> dict[str, list[Candidates]]:
    """Candidates of each viewer by the retrievers that take part."""
    most = funnel.config.limits.per_retriever
    return {
        name: each.retrieve(crowd, most)
        for name, each in funnel.retrievers.items()
        if (policy.kind != "retriever" or name == policy.part)
        and (policy.kind != "without" or name != policy.part)
    }


def _seed(viewer: Viewer, salt: str) -> int:
    return crc32((viewer.user_id + salt).encode())
