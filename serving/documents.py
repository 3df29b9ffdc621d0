"""From rows to what a client reads: ids, titles and reasons, made once at the funnel's edge."""

from datetime import datetime
from typing import Any

from serving.engine import Answer
from serving.impressions import Shown

COLUMNS = ("video_id", "title", "creator_id", "category", "duration_ms", "uploaded_at", "thumbnail_url")


def recommendation(
    answer: Answer, took_ms: float, debug: bool, next_cursor: str | None = None
) -> dict[str, Any]:
    """An answer as :class:`upnext.contracts.Recommendation` has it, without building one object per item."""
    slate, pool = answer.slate, answer.pool
    videos = answer.release.bundle.catalogue.table.select(COLUMNS).take(slate.rows).to_pylist()
    scores = slate.score.tolist()
    items = [
        video
        | {
            "title": video["title"] or "",
            "position": position,
            "score": scores[position],
            "reason": answer.reasons[position].model_dump(),
            "sources": pool.sources(int(slate.place[position])),
            "is_ad": False,
        }
        for position, video in enumerate(videos)
    ]
    document: dict[str, Any] = {
        "request_id": answer.request_id,
        "surface": answer.surface,
        "items": items,
        "release": answer.release.version,
        "experiments": {},
        "about": answer.about,
        "next_cursor": next_cursor,
        "took_ms": round(took_ms, 3),
    }
    if debug:
        _add_heads(items, answer)
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
    found: list[str] = answer.release.bundle.catalogue.ids[answer.slate.rows].tolist()
    return found


def shown(answer: Answer, session_id: str | None, at: datetime) -> Shown:
    """What to remember of an answer to a request that came ``at``."""
    return Shown(
        user_id=answer.viewer.user_id or session_id or f"anonymous-{answer.request_id}",
        request_id=answer.request_id,
        surface=answer.surface,
        at=at,
        video_ids=ids(answer),
        propensities=answer.slate.propensity.tolist(),
        session_id=session_id,
        device=answer.viewer.device,
        region=answer.viewer.region,
    )


def _add_heads(items: list[dict[str, Any]], answer: Answer) -> None:
    if answer.ranked is None:
        return
    heads = {name: values[answer.slate.place].tolist() for name, values in answer.ranked.heads.items()}
    for position, item in enumerate(items):
        item["heads"] = {name: values[position] for name, values in heads.items()}
