"""The funnel: retrieve, rank, post-rank, explain. One release from the first stage to the last.

:class:`Funnel` has the stages, and every caller runs these same ones: a request under deadlines
(:mod:`serving.engine`), and bulk recommending over thousands of viewers (:mod:`serving.bulk`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.als import FOLDED
from models.blend import Blend
from models.bundle import Bundle
from models.crosses import LENGTH
from models.exposure import Exposure
from models.stacked import Stacked, Vectors
from models.viewer_inputs import context, places
from serving import postrank, retrievers
from serving.candidates import Candidates, Pool, union
from serving.groups import Groups
from serving.inventory import Inventory
from serving.postrank import Rule, Situation, Slate
from serving.ranking import BundleRanker, Ranked, Ranker
from serving.reasons import Evidence
from serving.retrievers import Retriever
from serving.rules import FunnelConfig, Rules
from serving.search import TextIndex, Texts
from serving.standing import Standing
from serving.trending import LiveCounts, Trending
from serving.viewer import Crowd, Viewer, pasts

WEIGHTS: Mapping[str, float] = {
    "search": 2.0,
    "two_tower": 2.0,
    "trending": 0.5,
    "new": 0.5,
    "uploads": 0.5,
    "popular": 0.1,
}
"""Weight of a retriever when ranks are fused, 1 for the others; figures are in docs/LOG.md."""
RETRIEVERS = ("als", "two_tower", "because_you_watched", "creators", "topics", "trending", "new", "search")
"""Names of the retrievers that :func:`build` makes; ``uploads`` joins them once videos came after it."""
RELATED = ("because_you_watched", "creators", "topics", "uploads")
"""Retrievers that look at the video being watched."""
LEAST_CHANCE = 1e-5
"""Of a long view; what is less likely counts as much."""
LEAST = 3
"""Candidates wanted per place of a slate; popular videos fill up when fewer were found."""


@dataclass(frozen=True)
class Funnel:
    """The stages over one bundle."""

    bundle: Bundle
    retrievers: Mapping[str, Retriever]
    ranker: Ranker
    trending: Trending
    inventory: Inventory
    evidence: Evidence
    standing: Standing
    tables: "Tables"
    config: FunnelConfig = field(default_factory=FunnelConfig)
    shelves: Mapping[str, Retriever] = field(default_factory=dict)
    """Retrievers of single shelves, which no feed looks at."""

    def retriever(self, name: str) -> Retriever:
        return self.retrievers[name] if name in self.retrievers else self.shelves[name]

    def crowd(self, viewers: Sequence[Viewer]) -> Crowd:
        """Viewers with their vectors: ALS by fold-in, the user tower on the recent past."""
        histories = pasts(viewers)
        recent, bundle = histories.newest(LENGTH), self.bundle
        where = places([viewer.device for viewer in viewers], [viewer.region for viewer in viewers])
        now = np.asarray([viewer.now for viewer in viewers], np.int64)
        tower = bundle.towers.encode(recent, context(now, where))
        return Crowd(viewers, histories, bundle.als.fold_in(histories.newest(FOLDED)), tower)

    def anonymous(self, viewers: Sequence[Viewer]) -> Crowd:
        """Viewers without vectors, for when those cannot be had."""
        spaces = (self.bundle.als.factors, self.bundle.towers.items)
        blank = (np.zeros((len(viewers), items.shape[1]), np.float32) for items in spaces)
        return Crowd(viewers, pasts(viewers), *blank)

    def configured(self, config: FunnelConfig) -> "Funnel":
        """The same funnel under an operator's other parameters."""
        ranker = self.ranker
        if isinstance(ranker, BundleRanker):
            ranker = replace(ranker, override=config.weights)
        other = replace(self, ranker=ranker, config=config)
        _ = other.blend  # which is refused here, or the first request would find out
        return other

    @cached_property
    def fusion(self) -> Mapping[str, float]:
        """Weight of each retriever whose weight is not 1."""
        return {**WEIGHTS, **self.config.retrievers}

    @cached_property
    def blend(self) -> Blend:
        """The release's, with what the operator put in place of it."""
        return Blend.from_dict({**self.bundle.blend.to_dict(), **self.config.blend})

    def asked(self, sources: Sequence[str]) -> list[str]:
        """Those of some retrievers that there are, and that are not switched off."""
        there = self.retrievers.keys() | self.shelves.keys()
        return [name for name in sources if name in there and self.fusion.get(name, 1.0) > 0]

    def pool(
        self,
        viewer: Viewer,
        found: Mapping[str, Candidates],
        situation: Situation,
        *,
        filled: bool = True,
        unseen: bool = True,
    ) -> Pool:
        """The candidates worth ranking: merged, only what may be shown; filled up with popular videos where
        there are too few, without what was seen lately where enough else is left."""
        limit = self.config.limits.candidates
        pool = union(found, self.fusion, 2 * limit)
        kept = np.flatnonzero(postrank.permitted(pool.rows, situation))
        if filled and len(kept) < LEAST * situation.count:
            found = {**found, "popular": self._popular(viewer.region, LEAST * situation.count, situation)}
            pool = union(found, self.fusion, 2 * limit)
            kept = np.flatnonzero(postrank.permitted(pool.rows, situation))
        kept = kept[_unseen(pool.rows[kept], situation)] if unseen else kept
        return pool.take(kept[:limit])

    def slate(
        self,
        pool: Pool,
        ranked: Ranked | None,
        viewer: Viewer,
        situation: Situation,
        rules: Sequence[Rule],
        matches: Candidates | None = None,
    ) -> Slate:
        """Post-ranking of a pool, ranked or not; ``matches`` is what was searched for."""
        if matches is None:
            score = blended(pool, ranked, viewer, situation.rules, self.blend)
        else:
            score = matched(pool, ranked, matches, situation.rules)
        chance = ranked.heads.get("long_view") if ranked else None
        return postrank.apply(rules, Slate.of(pool.rows, score, chance), situation)

    def situation(
        self, viewer: Viewer, count: int, seed: int = 0, exclude: NDArray[np.int32] | None = None
    ) -> Situation:
        barred = [np.empty(0, np.int32) if exclude is None else exclude]
        if viewer.seed >= 0:
            barred.append(np.asarray([viewer.seed], np.int32))
        return Situation(
            inventory=self.inventory,
            active=self.standing.active,
            rules=self.config.rules,
            now=viewer.now,
            count=count,
            seen=viewer.seen,
            seen_age_s=viewer.age_s,
            seen_strength=viewer.strength,
            passed=viewer.passed,
            passed_age_s=viewer.passed_age_s,
            exclude=np.concatenate(barred),
            region=viewer.region or viewer.lives_in,
            allow_restricted=viewer.allow_restricted,
            kids=viewer.kids,
            seed=seed,
        )

    def _popular(self, region: str | None, wanted: int, situation: Situation) -> Candidates:
        """What is popular in the region, then everywhere, then every other video, the newest first."""
        videos = len(self.bundle.catalogue)
        parts = [self.trending.top(region)[0], self.trending.top(None)[0]]
        keep = postrank.permitted(np.concatenate(parts), situation)
        if keep.sum() < wanted:
            parts.append(np.arange(videos - 1, -1, -1, dtype=np.int32))
        rows = np.concatenate(parts)
        rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
        rows = rows[postrank.permitted(rows, situation)][:wanted]
        return Candidates.of(rows, -np.arange(len(rows), dtype=np.float32))


@dataclass(frozen=True)
class Tables:
    """What is looked up by row or group, dear to make of a million videos.

    neighbours int32[n, k] and likeness float32[n, k]: each video's neighbours, -1 where there are fewer;
    directions float32[n, d]: what a video is about; creators, categories: the videos of each, best first.
    """

    neighbours: NDArray[np.int32] | Stacked[np.int32]
    likeness: Vectors
    directions: Vectors
    creators: Groups
    categories: Groups
    text: Texts

    @classmethod
    def of(cls, bundle: Bundle, text: Texts | None = None) -> "Tables":
        catalogue, merit = bundle.catalogue, bundle.popularity.scores()
        return cls(
            bundle.neighbours.rows,
            bundle.neighbours.scores,
            bundle.towers.directions,
            Groups.by(catalogue.creator, merit, catalogue.active, len(catalogue.creators)),
            Groups.by(catalogue.category, merit, catalogue.active, len(catalogue.categories)),
            text or TextIndex.of(catalogue),
        )


def build(
    bundle: Bundle,
    ranker: Ranker,
    live: LiveCounts,
    config: FunnelConfig | None = None,
    exposure: Exposure | None = None,
    text: Texts | None = None,
) -> Funnel:
    """The funnel of a bundle, its look-up tables made.

    exposure: the bundle's unless more is known. text: where it is made already.
    """
    trending = Trending(bundle.catalogue, bundle.popularity, live)
    settings = config or FunnelConfig()
    return put_together(
        bundle, Tables.of(bundle, text), ranker, trending, settings, exposure or bundle.exposure
    )


def put_together(
    bundle: Bundle,
    tables: Tables,
    ranker: Ranker,
    trending: Trending,
    config: FunnelConfig,
    exposure: Exposure,
) -> Funnel:
    """The funnel over tables that are made already."""
    catalogue = bundle.catalogue
    named = {name: code for code, name in enumerate(catalogue.categories)}
    sources: dict[str, Retriever] = {
        "als": retrievers.Nearest(lambda crowd: crowd.als, bundle.als_index),
        "two_tower": retrievers.Nearest(lambda crowd: crowd.tower, bundle.tower_index),
        "because_you_watched": retrievers.BecauseYouWatched(tables.neighbours, tables.likeness),
        "creators": retrievers.SameGroup(catalogue.creator, tables.creators),
        "topics": retrievers.SameGroup(catalogue.category, tables.categories, named=named),
        "trending": retrievers.TrendingNow(trending),
        "new": retrievers.NewReleases(catalogue),
        "search": retrievers.SearchIntent(tables.text),
    }
    shelves: dict[str, Retriever] = {
        "topic": retrievers.OneTopic(tables.categories, named),
        "latest": retrievers.NewReleases(catalogue, days=retrievers.EVER),
    }
    inventory = Inventory.of(catalogue, tables.directions, exposure)
    standing = Standing.of(catalogue, inventory.restricted)
    inventory = replace(inventory, restricted=standing.restricted)
    evidence = Evidence(bundle.als, inventory.directions)
    return Funnel(bundle, sources, ranker, trending, inventory, evidence, standing, tables, config, shelves)


def blended(
    pool: Pool, ranked: Ranked | None, viewer: Viewer, rules: Rules, blend: Blend
) -> NDArray[np.float32]:
    """The score that post-ranking starts from, float32[n].

    In a feed the release's blend of what the ranker and the retrievers say. Beside a video, which neither
    knows, a mean of two places, each scaled to [0, 1]: by the ranker's utility, and by the fused ranks of
    what goes well with the video. Without a ranker, the fused ranks.
    """
    if ranked is None:
        return pool.fused
    if viewer.seed < 0:
        return blend.score(signals(pool, ranked))
    share = rules.related_share
    return ((1 - share) * _places(ranked.utility) + share * _places(pool.fused)).astype(np.float32)


def signals(pool: Pool, ranked: Ranked) -> dict[str, NDArray[np.float32]]:
    """What is said of a pool's candidates, by the names of :class:`models.blend.Blend`, float32[n] each."""
    said = {"utility": ranked.utility, "fused": pool.fused, **ranked.retrieved}
    if (chance := ranked.heads.get("long_view")) is not None:
        said["long_view"] = np.log(np.maximum(chance, LEAST_CHANCE))
    return said


def matched(pool: Pool, ranked: Ranked | None, found: Candidates, rules: Rules) -> NDArray[np.float32]:
    """The score of what was searched for, float32[n]: how well the words match, as a share of the best match,
    and the place by the ranker's utility. Without a ranker, the match."""
    order = np.argsort(found.rows)
    match = found.scores[order][np.searchsorted(found.rows[order], pool.rows)]
    relevance = match / max(float(match.max(initial=0.0)), 1e-9)
    if ranked is None:
        return relevance.astype(np.float32)
    share = rules.search_share
    return ((1 - share) * relevance + share * _places(ranked.utility)).astype(np.float32)


def _places(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the others that each is better than, float64[n]."""
    places = np.empty(len(values))
    places[np.argsort(values, kind="stable")] = np.arange(len(values))
    return places / max(len(values) - 1, 1)


def _unseen(rows: NDArray[np.int32], situation: Situation) -> NDArray[np.bool_]:
    """bool[n]: what was not watched within the half-life of its demotion; all, where little else is left."""
    watched = situation.seen[situation.seen_age_s < situation.rules.seen_half_life_s]
    unseen = ~np.isin(rows, watched)
    enough = max(situation.count, min(LEAST * situation.count, len(rows) // 2))
    return unseen if unseen.sum() >= enough else np.ones(len(rows), np.bool_)
