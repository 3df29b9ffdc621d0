"""From rows to what a client reads: ids, titles and reasons, made once at the funnel's edge."""

from datetime import datetime
from typing import Any

from serving.ads import Ad
from serving.answer import Answer
from serving.clock import wall_clock
from serving.feature_log import ShownFeatures
from serving.impressions import Shown
from serving.reasons import say
from serving.viewer import Viewer

COLUMNS = ("video_id", "title", "creator_id", "category", "duration_ms", "uploaded_at", "thumbnail_url")


def recommendation(
    answer: Answer, took_ms: float, debug: bool, next_cursor: str | None = None
) -> dict[str, Any]:
    """An answer as :class:`upnext.contracts.Recommendation` has it, without building one object per item."""
    slate, pool = answer.slate, answer.pool
    videos = answer.release.bundle.catalogue.documents(slate.rows, COLUMNS)
    scores = slate.score.tolist()
    items = [
        video
        | {
            "title": video["title"] or "",
            "score": scores[position],
            "reason": dict(answer.reasons[position]),
            "sources": pool.sources(int(slate.place[position])),
            "is_ad": False,
        }
        for position, video in enumerate(videos)
    ]
    if debug:
        _add_heads(items, answer)
    for position, ad in sorted(answer.ads.items()):
        items.insert(position, _ad(ad, answer.viewer))
    for position, item in enumerate(items):
        item["position"] = position
    document: dict[str, Any] = {
        "request_id": answer.request_id,
        "surface": answer.surface,
        "items": items,
        "release": answer.release.version,
        "experiments": dict(answer.experiments),
        "about": answer.about,
        "next_cursor": next_cursor,
        "took_ms": round(took_ms, 3),
    }
    if debug:
        trace = answer.trace
        document["debug"] = {
            "timings_ms": {stage: round(took, 3) for stage, took in trace.timings_ms.items()},
            "candidates": trace.counts,
            "skipped": trace.skipped,
            "viewer": {
                "known": answer.viewer.known,
                "history": len(answer.viewer.seen),
                "query": answer.viewer.query,
                "now": answer.release.clock.now(),
            },
        }
    return document


def ids(answer: Answer) -> list[str]:
    """The videos of an answer, in its order."""
    found: list[str] = answer.release.bundle.catalogue.named(answer.slate.rows).tolist()
    return found


def shown(
    answer: Answer, session_id: str | None, at: datetime | None = None, viewer: str | None = None
) -> Shown:
    """What to remember of an answer to a request that came ``at``, just now where that is not told.

    ``viewer`` is who asked, also where the answer was for nobody in particular.
    """
    return Shown(
        user_id=viewer or answer.viewer.user_id or session_id or f"anonymous-{answer.request_id}",
        request_id=answer.request_id,
        surface=answer.surface,
        at=at or wall_clock(),
        video_ids=ids(answer),
        positions=answer.positions.tolist(),
        propensities=answer.slate.propensity.tolist(),
        session_id=session_id,
        device=answer.viewer.device,
        region=answer.viewer.region,
        features=ShownFeatures.of(answer),
    )


def _ad(ad: Ad, viewer: Viewer) -> dict[str, Any]:
    """An ad in a place of the slate."""
    return {
        **dict.fromkeys(COLUMNS),
        "video_id": ad.ad_id,
        "title": ad.title,
        "creator_id": ad.advertiser,
        "duration_ms": ad.duration_ms,
        "thumbnail_url": ad.thumbnail_url,
        "click_url": ad.click_url,
        "score": 0.0,
        "reason": say("sponsored", viewer.language).model_dump(),
        "sources": [],
        "is_ad": True,
    }


def _add_heads(items: list[dict[str, Any]], answer: Answer) -> None:
    if answer.ranked is None:
        return
    heads = {name: values[answer.slate.place].tolist() for name, values in answer.ranked.heads.items()}
    for position, item in enumerate(items):
        item["heads"] = {name: values[position] for name, values in heads.items()}
