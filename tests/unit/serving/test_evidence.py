"""What a reason names is in the viewer's data, and without it the video stands lower."""

from dataclasses import replace

import numpy as np

from models.history import Histories
from serving.candidates import UNRANKED
from serving.funnel import Funnel, build
from serving.postrank import HOME
from serving.ranking import BundleRanker
from serving.reasons import explain
from serving.rules import FunnelConfig, Rules
from serving.trending import LiveCounts
from serving.viewer import Viewer
from tests.support.bundles import VIDEOS
from tests.support.videos import viewer_of

PERSONAL = {"because_you_watched", "creator_you_watch", "new_from_creator", "topic_you_watch"}
PLACED = frozenset({"explore", "share_with_small", "spread_creators", "spread_topics"})
"""Rules that give places away for other reasons."""


def standing(funnel: Funnel, viewer: Viewer):
    """Every candidate in its final order with its reason, and by retriever: row -> rank there."""
    crowd = funnel.crowd([viewer])
    found = {name: each.retrieve(crowd, 300)[0] for name, each in funnel.retrievers.items()}
    situation = funnel.situation(viewer, VIDEOS)
    pool = funnel.pool(viewer, found, situation)
    slate = funnel.slate(pool, funnel.ranker.rank(crowd, pool.rows), viewer, situation, HOME)
    reasons = explain(slate, pool, viewer, funnel.bundle.catalogue, funnel.evidence)
    ranks = {
        name: dict(zip(pool.rows.tolist(), pool.ranks[at].tolist(), strict=True))
        for at, name in enumerate(pool.names)
    }
    return slate.rows.tolist(), reasons, ranks


def without(viewer: Viewer, rows: list[int]) -> Viewer:
    """The same viewer who never met some videos."""
    kept = ~np.isin(viewer.past.rows[0], rows)
    past = Histories(*(getattr(viewer.past, name)[:, kept] for name in ("rows", "strength", "age_s")))
    return replace(viewer, past=past)


def behind(viewer: Viewer, funnel: Funnel, reason) -> list[int]:
    """Rows of the past that a reason rests on."""
    catalogue, past = funnel.bundle.catalogue, viewer.seen.tolist()
    if reason.code == "because_you_watched":
        return [row for row in past if catalogue.ids[row] == reason.because_of]
    values = catalogue.table["creator_id" if "creator" in reason.code else "category"].to_pylist()
    return [row for row in past if values[row] == reason.because_of]


def test_without_its_evidence_a_video_stands_lower(bundle):
    """In the retriever that speaks for it always; in the feed nearly so, since others may fall further."""
    funnel = build(bundle, BundleRanker(bundle), LiveCounts(), FunnelConfig(rules=Rules(off=PLACED)))
    rng = np.random.default_rng(0)
    lower = []
    for _ in range(5):
        liked = rng.choice(VIDEOS, 4, replace=False)
        features = np.zeros(len(bundle.scorer.schema.user), np.float32)
        viewer = viewer_of(liked, strength=rng.uniform(0.6, 1.0, 4), features=features)
        order, reasons, ranks = standing(funnel, viewer)
        for place, (row, reason) in enumerate(list(zip(order, reasons, strict=True))[:10]):
            if reason.code not in PERSONAL:
                continue
            evidence = behind(viewer, funnel, reason)
            assert evidence, f"{reason} rests on nothing in {liked}"
            after, _, ranks_after = standing(funnel, without(viewer, evidence))
            fell = [
                name
                for name, of in ranks.items()
                if of[row] < UNRANKED and ranks_after[name].get(row, UNRANKED) > of[row]
            ]
            assert set(fell) & {"als", "two_tower", "because_you_watched", "creators", "topics"}, (
                row,
                reason,
            )
            lower.append((after.index(row) if row in after else VIDEOS) > place)
    assert len(lower) > 30
    assert np.mean(lower) > 0.8, np.mean(lower)
