"""The features of :mod:`feature_repo.specs` as Ibis expressions, the same on DuckDB and on Spark.

All of them look at what was known strictly before a time: :func:`as_of` leaves the later rows out and turns
times into ages, so that the expressions are the same for every snapshot and are compiled once. Everything
summed is an integer, so that the order in which an engine adds up cannot show in the result; what becomes a
float does so once, at the end.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import ibis
import ibis.expr.types as ir

from feature_repo.specs import USER, VIDEO, WINDOWS, ViewSpec

SMOOTHING = 20.0
"""Videos seen at the overall mean that every rate starts from."""
MEMORY_DAYS = 90
"""Nothing older than this has a say, as in the watch history."""
PPM = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
RATES = {
    "ctr": ("clicks", "impressions"),
    "long_view_rate": ("long_views", "seen"),
    "like_rate": ("likes", "seen"),
    "share_rate": ("shares", "seen"),
    "not_interested_rate": ("not_interested", "seen"),
    "mean_watch_fraction": ("fraction_ppm", "seen"),
    "mean_watch_s": ("watch_ms", "seen"),
}
"""Rate, its numerator and its denominator, as columns of :func:`facts`."""
SCALES = {"mean_watch_fraction": PPM, "mean_watch_s": 1_000}
COUNTED = (
    *("impressions", "clicks", "watches", "watch_ms", "likes", "shares", "not_interested"),
    *("seen", "long_views", "fraction_ppm"),
)


def facts(outcomes: ir.Table, videos: ir.Table) -> ir.Table:
    """Outcomes as integers to be summed, with each video's creator and category.

    A row counts from ``known_us`` on, its last event in µs since the epoch: before, part of it had not
    happened. ``seen`` are the rows whose watch time is known, none watched included: a watch of unknown
    length counts as a watch, and is left out of what is measured per video seen.
    """
    of_video = videos.select("video_id", "creator_id", "category")
    t = outcomes.left_join(of_video, "video_id")
    seen = t.shown | t.watch_ms.notnull()
    fraction = ibis.ifelse(seen, t.watch_fraction.cast("float64").fill_null(0.0), 0.0)
    session = ibis.coalesce(t.session_id, t.request_id, t.date)
    return t.select(
        user_id=t.user_id,
        video_id=t.video_id,
        creator_id=t.creator_id,
        category=t.category,
        session=session,
        known_us=_micros(ibis.coalesce(t.engaged_at, t.timestamp)),
        duration_ms=t.duration_ms,
        impressions=_integer(t.shown),
        clicks=_integer(t.clicked),
        watches=_integer(t.watched),
        watch_ms=t.watch_ms.fill_null(0),
        likes=_integer(t.liked),
        shares=_integer(t.shared),
        not_interested=_integer(t.not_interested),
        seen=_integer(seen),
        long_views=_integer(fraction > 0.5),
        fraction_ppm=(fraction * PPM).round().cast("int64"),
    )


def as_of(table: ir.Table, column: str, at: datetime) -> ir.Table:
    """Rows whose time lies before ``at``, and those of unknown time, with their age in µs (null: unknown).

    The column is a timestamp or, much faster on DuckDB, µs since the epoch.
    """
    time = table[column]
    since_epoch = _micros(time) if isinstance(time, ir.TimestampColumn) else time
    aged = table.mutate(age_us=(at - EPOCH) // timedelta(microseconds=1) - since_epoch)
    return aged.filter(aged.age_us.isnull() | (aged.age_us > 0))


def video_features(past: ir.Table, videos: ir.Table) -> ir.Table:
    """Features of every video there is: video_id, then those of ``VIDEO``, ordered by id.

    Parameters
    ----------
    past
        :func:`facts` as of the snapshot's time, by ``known_us``.
    videos
        The catalogue as of that time, by ``uploaded_at``.
    """
    counts = _counts(_within(past, 30), VIDEO)
    base = videos.select("video_id", "creator_id", "category", "age_us", video_ms=videos.duration_ms)
    t = _joined(base, counts, "video_id")
    t = _joined(t, _viewers(_within(past, 7)), "video_id")
    t = _joined(t, _creators(t), "creator_id", prefix="creator_")
    t = t.cross_join(_means(counts))
    features = {
        **_windowed(t, VIDEO),
        **{name: _rate(t, name) for name in RATES},
        "age_h": _log(t.age_us / HOUR_US).fill_null(-1.0),
        "duration_s": _log(t.video_ms / 1000.0).fill_null(-1.0),
        "viewers_7d": _log(t.viewers_7d),
        "trend": ((t.watches_1d + 1.0) / (t.watches_7d / 7.0 + 1.0)).ln(),
        "popularity": ibis.percent_rank().over(order_by=t.watches_7d),
        "category_popularity": ibis.percent_rank().over(group_by=t.category, order_by=t.watches_7d),
        "creator_videos": _log(t.creator_videos),
        "creator_impressions_30d": _log(t.creator_impressions_30d),
        "creator_watches_30d": _log(t.creator_watches_30d),
        **{
            f"creator_{name}": _rate(t, name, whose="creator_")
            for name in ("ctr", "long_view_rate", "mean_watch_s")
        },
    }
    return _finished(t, features, VIDEO)


def user_features(past: ir.Table, users: ir.Table) -> ir.Table:
    """Features of every viewer known or seen: user_id, then those of ``USER``, ordered by id.

    Parameters
    ----------
    past
        :func:`facts` as of the snapshot's time, by ``known_us``.
    users
        The profiles as of that time, by ``created_at``.
    """
    past = _within(past, MEMORY_DAYS)
    watched = _within(past, 30).filter(ibis._.watches > 0)
    counts = _counts(past, USER)
    t = _joined(_known(counts, users), counts, "user_id")
    t = _joined(t, _sessions(past), "user_id", keep=("first_us", "last_us"))
    t = _joined(t, _lengths_and_creators(watched), "user_id")
    t = _joined(t, _tastes(watched), "user_id", keep=("category_entropy", "top_category_share"))
    t = t.cross_join(_means(counts))
    features = {
        **_windowed(t, USER),
        **{name: _rate(t, name) for name in RATES},
        "mean_duration_s": _log(_ratio(t.watched_ms, t.lengths) / 1000.0),
        "categories_30d": _log(t.categories_30d),
        "creators_30d": _log(t.creators_30d),
        "category_entropy": t.category_entropy.fill_null(0.0),
        "top_category_share": t.top_category_share.fill_null(0.0),
        "idle_h": _log(t.last_us / HOUR_US).fill_null(-1.0),
        "sessions_7d": _log(t.sessions_7d),
        "sessions_30d": _log(t.sessions_30d),
        "tenure_d": _log(ibis.coalesce(t.age_us, t.first_us) / DAY_US).fill_null(-1.0),
        **{f"{name}_share": _frequency(t, name) for name in ("region", "device", "age_group", "language")},
    }
    return _finished(t, features, USER)


def _integer(flag: ir.BooleanValue) -> ir.IntegerValue:
    return flag.fill_null(False).cast("int64")


def _micros(time: ir.TimestampColumn) -> ir.IntegerColumn:
    epoch = ibis.literal(EPOCH, type="timestamp('UTC', 6)")
    return time.delta(epoch, unit="microsecond")


def _within(past: ir.Table, days: int) -> ir.Table:
    return past.filter(past.age_us <= days * DAY_US)


def _log(amount: ir.NumericColumn) -> ir.FloatingColumn:
    """ln(1 + x), what is below zero taken as zero; null stays null."""
    amount = amount.cast("float64")
    return (ibis.ifelse(amount < 0.0, 0.0, amount) + 1.0).ln()


def _ratio(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    return ibis.ifelse(whole > 0, part.cast("float64") / whole.cast("float64"), 0.0)


def _feature(column: str, window: str) -> str:
    """Name of the feature that a counted column becomes in a window."""
    return f"{'watch_s' if column == 'watch_ms' else column}_{window}"


def _counts(past: ir.Table, view: ViewSpec) -> ir.Table:
    """Sums per entity, ``<column>_<window>``, those that a view's features and rates need.

    Rows are added up once per entity and age, the windows then from those few: three times as fast as
    a condition per sum over all rows.
    """
    age = ibis.literal(len(WINDOWS), type="int8")
    for place, days in reversed(list(enumerate(WINDOWS.values()))):
        age = ibis.ifelse(past.age_us <= days * DAY_US, ibis.literal(place, type="int8"), age)
    aged = past.mutate(age=age)
    per_age = aged.group_by([view.key, "age"]).aggregate(
        **{name: aged[name].sum().cast("int64") for name in COUNTED}
    )
    sums = {
        f"{name}_{window}": per_age[name].sum(where=per_age.age <= place).fill_null(0).cast("int64")
        for place, window in enumerate(WINDOWS)
        for name in COUNTED
        if window == "30d" or _feature(name, window) in view.names
    }
    return per_age.group_by(view.key).aggregate(**sums)


def _joined(
    base: ir.Table, counts: ir.Table, key: str, keep: tuple[str, ...] = (), prefix: str = ""
) -> ir.Table:
    """``base`` with the counts of its key, zero where it has none; those of ``keep`` stay null."""
    renamed = counts.rename({f"{prefix}{name}": name for name in counts.columns if name != key and prefix})
    joined = base.left_join(renamed, key).drop(f"{key}_right")
    zeros = {name: 0 for name in renamed.columns if name != key and name not in keep}
    return joined.fill_null(zeros)


def _creators(videos: ir.Table) -> ir.Table:
    """Counts of each creator over the last 30 days, from those of its videos."""
    needed = ("impressions", "clicks", "watches", "watch_ms", "seen", "long_views")
    known = videos.filter(videos.creator_id.notnull())
    return known.group_by("creator_id").aggregate(
        videos=known.count(), **{f"{name}_30d": known[f"{name}_30d"].sum().cast("int64") for name in needed}
    )


def _means(counts: ir.Table) -> ir.Table:
    """One row: each rate over everyone and everything, ``prior_<rate>``; zero where nothing was seen."""
    totals = counts.aggregate(**{name: counts[f"{name}_30d"].sum().fill_null(0) for name in COUNTED})
    return totals.select(
        **{f"prior_{rate}": _ratio(totals[part], totals[whole]) for rate, (part, whole) in RATES.items()}
    )


def _rate(t: ir.Table, name: str, whose: str = "") -> ir.FloatingColumn:
    """A rate with the overall mean as its prior, worth ``SMOOTHING`` observations (empirical Bayes)."""
    part, whole = (t[f"{whose}{column}_30d"].cast("float64") for column in RATES[name])
    smoothed = (part + t[f"prior_{name}"] * SMOOTHING) / (whole + SMOOTHING) / SCALES.get(name, 1)
    return _log(smoothed) if name == "mean_watch_s" else smoothed


def _windowed(t: ir.Table, view: ViewSpec) -> dict[str, ir.FloatingColumn]:
    """ln(1 + x) of those counts per window that a view asks for."""
    amounts = {
        _feature(name, window): (f"{name}_{window}", 1000.0 if name == "watch_ms" else 1.0)
        for window in WINDOWS
        for name in COUNTED
    }
    return {
        feature: _log(t[column] / scale)
        for feature, (column, scale) in amounts.items()
        if feature in view.names
    }


def _viewers(week: ir.Table) -> ir.Table:
    """Distinct viewers who watched each video."""
    pairs = week.filter(week.watches > 0).select("video_id", "user_id").distinct()
    return pairs.group_by("video_id").aggregate(viewers_7d=pairs.count())


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
    """Lengths of the videos that a viewer watched, added up, and from how many creators they were."""
    each = watched.group_by(["user_id", "creator_id"]).aggregate(
        watched_ms=watched.duration_ms.sum().fill_null(0).cast("int64"), lengths=watched.duration_ms.count()
    )
    return each.group_by("user_id").aggregate(
        creators_30d=each.creator_id.count(),
        watched_ms=each.watched_ms.sum().cast("int64"),
        lengths=each.lengths.sum().cast("int64"),
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
        top_category_share=_ratio(total.top, total.n),
    )


def _frequency(t: ir.Table, name: str) -> ir.FloatingColumn:
    """Share of viewers with the same value; 0 where it is unknown."""
    same = t[name].count().over(group_by=t[name]).cast("float64")
    return ibis.ifelse(t[name].isnull(), 0.0, same / t.user_id.count().over().cast("float64"))


def _finished(t: ir.Table, features: Mapping[str, ir.Value], view: ViewSpec) -> ir.Table:
    columns = {name: features[name].cast("float32") for name in view.names}
    return t.select(view.key, **columns).order_by(view.key)
