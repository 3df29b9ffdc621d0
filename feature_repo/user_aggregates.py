"""The features of viewers as Ibis expressions (:mod:`feature_repo.aggregates`)."""

import ibis
import ibis.expr.types as ir

from feature_repo.aggregates import (
    MEMORY_DAYS,
    PPM,
    RATES,
    counts_of,
    finished,
    joined,
    log,
    means,
    rate,
    ratio,
    windowed,
    within,
)
from feature_repo.specs import DAYPARTS, USER
from upnext.times import DAY_US, HOUR_US


def user_features(past: ir.Table, users: ir.Table) -> ir.Table:
    """Features of every viewer known or seen: user_id, then those of ``USER``, ordered by id.

    Parameters
    ----------
    past
        :func:`~feature_repo.aggregates.facts` as of the snapshot's time, by ``known_us``.
    users
        The profiles as of that time, by ``created_at``.
    """
    past = within(past, MEMORY_DAYS)
    watched = within(past, 30).filter(ibis._.watches > 0)
    counts = counts_of(past, USER)
    t = joined(_known(counts, users), counts, "user_id")
    t = joined(t, _sessions(past), "user_id", keep=("first_us", "last_us"))
    t = joined(t, _lengths_and_creators(watched), "user_id")
    t = joined(t, _hours(watched), "user_id")
    t = joined(t, _tastes(watched), "user_id", keep=("category_entropy", "top_category_share"))
    t = t.cross_join(means(counts))
    features = {
        **windowed(t, USER),
        **{name: rate(t, name) for name in RATES},
        "mean_duration_s": log(ratio(t.watched_ms, t.lengths) / 1000.0),
        "categories_30d": log(t.categories_30d),
        "creators_30d": log(t.creators_30d),
        "category_entropy": t.category_entropy.fill_null(0.0),
        "top_category_share": t.top_category_share.fill_null(0.0),
        "top_creator_share": ratio(t.top_creator, t.by_creators),
        "idle_h": log(t.last_us / HOUR_US).fill_null(-1.0),
        "sessions_7d": log(t.sessions_7d),
        "sessions_30d": log(t.sessions_30d),
        "session_watches": log(ratio(t.watches_30d, t.sessions_30d)),
        "session_watch_s": log(ratio(t.watch_ms_30d, t.sessions_30d) / 1000.0),
        **{f"{part}_share": ratio(t[part], t.timed_watches) for part in (*DAYPARTS, "weekend")},
        "tenure_d": log(ibis.coalesce(t.age_us, t.first_us) / DAY_US).fill_null(-1.0),
        **{f"{name}_share": _frequency(t, name) for name in ("region", "device", "age_group", "language")},
    }
    return finished(t, features, USER)


def watched_pairs(past: ir.Table) -> ir.Table:
    """What tastes are made of: user_id, video_id, watch_ms of 30 days and strength_ppm of 7, in any order."""
    recent = within(past, 30)
    recent = recent.filter((recent.watch_ms > 0) | (recent.strength_ppm > 0))
    return recent.group_by(["user_id", "video_id"]).aggregate(
        watch_ms=recent.watch_ms.sum().cast("int64"),
        strength_ppm=recent.strength_ppm.sum(where=recent.age_us <= 7 * DAY_US).fill_null(0).cast("int64"),
    )


def _sessions(past: ir.Table) -> ir.Table:
    """Sessions per viewer and window, and how long ago the viewer was first and last seen, in µs."""
    each = past.group_by(["user_id", "session"]).aggregate(
        last_us=past.age_us.min(), first_us=past.age_us.max()
    )
    return each.group_by("user_id").aggregate(
        sessions_7d=each.count(where=each.last_us <= 7 * DAY_US),
        sessions_30d=each.count(where=each.last_us <= 30 * DAY_US),
        first_us=each.first_us.max(),
        last_us=each.last_us.min(),
    )


def _lengths_and_creators(watched: ir.Table) -> ir.Table:
    """Lengths of the videos that a viewer watched, added up; from how many creators, and by which most."""
    each = watched.group_by(["user_id", "creator_id"]).aggregate(
        watched_ms=watched.duration_ms.sum().fill_null(0).cast("int64"),
        lengths=watched.duration_ms.count(),
        n=watched.count(),
    )
    known = each.creator_id.notnull()
    return each.group_by("user_id").aggregate(
        creators_30d=each.creator_id.count(),
        by_creators=each.n.sum(where=known).fill_null(0).cast("int64"),
        top_creator=each.n.max(where=known).fill_null(0),
        watched_ms=each.watched_ms.sum().cast("int64"),
        lengths=each.lengths.sum().cast("int64"),
    )


def _hours(watched: ir.Table) -> ir.Table:
    """Watches per viewer by part of the day, and at weekends."""
    return watched.group_by("user_id").aggregate(
        timed_watches=watched.count(),
        weekend=watched.weekend.sum().cast("int64"),
        **{name: watched.count(where=watched.daypart == part) for part, name in enumerate(DAYPARTS)},
    )


def _known(seen: ir.Table, users: ir.Table) -> ir.Table:
    """Users that had signed up, and those seen without; a profile of later is nobody's yet."""
    ids = users.select("user_id").union(seen.select("user_id"), distinct=True)
    profile = users.select("user_id", "region", "device", "age_group", "language", "age_us")
    return ids.left_join(profile, "user_id").drop("user_id_right")


def _tastes(watched: ir.Table) -> ir.Table:
    """Categories watched per viewer: how many, their entropy in nats, and the share of the greatest.

    H = ln N - (1/N) Σ c ln c; the sum is taken over millionths, to be the same in any order.
    """
    known = watched.filter(watched.category.notnull())
    per = known.group_by(["user_id", "category"]).aggregate(n=known.count())
    per = per.mutate(weight=(per.n * per.n.cast("float64").ln() * PPM).round().cast("int64"))
    total = per.group_by("user_id").aggregate(
        categories_30d=per.count(), n=per.n.sum(), top=per.n.max(), weight=per.weight.sum()
    )
    count = total.n.cast("float64")
    return total.select(
        "user_id",
        "categories_30d",
        category_entropy=ibis.greatest(count.ln() - total.weight.cast("float64") / PPM / count, 0.0),
        top_category_share=ratio(total.top, total.n),
    )


def _frequency(t: ir.Table, name: str) -> ir.FloatingColumn:
    """Share of viewers with the same value; 0 where it is unknown."""
    same = t[name].count().over(group_by=t[name]).cast("float64")
    return ibis.ifelse(t[name].isnull(), 0.0, same / t.user_id.count().over().cast("float64"))
