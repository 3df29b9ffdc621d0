"""What all batch features are computed from, as Ibis expressions, the same on DuckDB and on Spark.

All of them look at what was known strictly before a time: :func:`as_of` leaves the later rows out and turns
times into ages, so that the expressions are the same for every snapshot and are compiled once. Everything
summed is an integer, so that the order in which an engine adds up cannot show in the result; what becomes a
float does so once, at the end. The features themselves are in :mod:`feature_repo.video_aggregates` and
:mod:`feature_repo.user_aggregates`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import ibis
import ibis.expr.types as ir

from feature_repo.specs import WINDOWS, ViewSpec
from models.history import CLICK_STRENGTH
from upnext.times import DAY_US, EPOCH, EPOCH_WEEKDAY, microseconds

SMOOTHING = 20.0
"""Videos seen at the overall mean that every rate starts from."""
MEMORY_DAYS = 90
"""Nothing older than this has a say, as in the watch history."""
PPM = 1_000_000
RATES = {
    "ctr": ("shown_clicks", "impressions"),
    "long_view_rate": ("long_views", "seen"),
    "like_rate": ("seen_likes", "seen"),
    "share_rate": ("seen_shares", "seen"),
    "not_interested_rate": ("seen_not_interested", "seen"),
    "mean_watch_fraction": ("fraction_ppm", "seen"),
    "mean_watch_s": ("watch_ms", "seen"),
}
"""Rate, its numerator and its denominator, as columns of :func:`facts`; a numerator counts no other rows."""
SCALES = {"mean_watch_fraction": PPM, "mean_watch_s": 1_000}
COUNTED = (
    *("impressions", "clicks", "watches", "watch_ms", "likes", "shares", "not_interested"),
    *("seen", "long_views", "fraction_ppm"),
    *("shown_clicks", "seen_likes", "seen_shares", "seen_not_interested"),
)
_LONGER = {"1d": "7d", "7d": "30d"}


def facts(outcomes: ir.Table, videos: ir.Table) -> ir.Table:
    """Outcomes as integers to be summed, with each video's creator and category.

    A row counts from ``known_us`` on, its last event in µs since the epoch: before, part of it had not
    happened. ``seen`` are the rows whose watch time is known, none watched included: a watch of unknown
    length counts as a watch, and is left out of what is measured per video seen; so is a click without an
    impression of what is measured per impression.
    """
    of_video = videos.select("video_id", "creator_id", "category")
    t = outcomes.left_join(of_video, "video_id")
    seen = t.shown | t.watch_ms.notnull()
    part = t.watch_fraction.cast("float64").fill_null(0.0)
    fraction = ibis.ifelse(seen, part, 0.0)
    session = ibis.coalesce(t.session_id, t.request_id, t.date)
    known_us = _micros(ibis.coalesce(t.engaged_at, t.timestamp))
    cared = ibis.greatest(part, _integer(t.clicked) * CLICK_STRENGTH)
    cared = cared + _integer(t.liked) + _integer(t.shared)
    return t.select(
        user_id=t.user_id,
        video_id=t.video_id,
        creator_id=t.creator_id,
        category=t.category,
        session=session,
        known_us=known_us,
        daypart=(known_us % DAY_US) // (DAY_US // 4),
        weekend=_integer((known_us // DAY_US + EPOCH_WEEKDAY) % 7 >= 5),
        duration_ms=t.duration_ms,
        impressions=_integer(t.shown),
        clicks=_integer(t.clicked),
        watches=_integer(t.watched),
        timed=_integer(t.watched & t.watch_ms.notnull() & t.duration_ms.notnull()),
        watch_ms=t.watch_ms.fill_null(0),
        likes=_integer(t.liked),
        shares=_integer(t.shared),
        not_interested=_integer(t.not_interested),
        seen=_integer(seen),
        shown_clicks=_integer(t.shown & t.clicked),
        seen_likes=_integer(seen & t.liked),
        seen_shares=_integer(seen & t.shared),
        seen_not_interested=_integer(seen & t.not_interested),
        long_views=_integer(fraction > 0.5),
        fraction_ppm=(fraction * PPM).round().cast("int64"),
        strength_ppm=(ibis.ifelse(t.not_interested.fill_null(False), 0.0, cared) * PPM).round().cast("int64"),
    )


def as_of(table: ir.Table, column: str, at: datetime) -> ir.Table:
    """Rows whose time lies before ``at``, and those of unknown time, with their age in µs (null: unknown).

    The column is a timestamp or, much faster on DuckDB, µs since the epoch.
    """
    time = table[column]
    since_epoch = _micros(time) if isinstance(time, ir.TimestampColumn) else time
    aged = table.mutate(age_us=microseconds(at) - since_epoch)
    return aged.filter(aged.age_us.isnull() | (aged.age_us > 0))


def within(past: ir.Table, days: int) -> ir.Table:
    """The rows of the last days."""
    return past.filter(past.age_us <= days * DAY_US)


def log(amount: ir.NumericColumn) -> ir.FloatingColumn:
    """ln(1 + x), what is below zero taken as zero; null stays null."""
    amount = amount.cast("float64")
    return (ibis.ifelse(amount < 0.0, 0.0, amount) + 1.0).ln()


def ratio(part: ir.NumericValue, whole: ir.NumericValue) -> ir.FloatingValue:
    """part / whole, 0 of nothing."""
    return ibis.ifelse(whole > 0, part.cast("float64") / whole.cast("float64"), 0.0)


def counts_of(past: ir.Table, view: ViewSpec, windows: Sequence[str] = ("30d",)) -> ir.Table:
    """Sums per entity, ``<column>_<window>``: all columns in ``windows``, else those that a view asks for.

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
        if window in windows or _feature(name, window) in view.names
    }
    return per_age.group_by(view.key).aggregate(**sums)


def joined(
    base: ir.Table, counts: ir.Table, key: str, keep: tuple[str, ...] = (), prefix: str = ""
) -> ir.Table:
    """``base`` with the counts of its key, zero where it has none; those of ``keep`` stay null."""
    renamed = counts.rename({f"{prefix}{name}": name for name in counts.columns if name != key and prefix})
    both = base.left_join(renamed, key).drop(f"{key}_right")
    zeros = {name: 0 for name in renamed.columns if name != key and name.removeprefix(prefix) not in keep}
    return both.fill_null(zeros)


def means(counts: ir.Table) -> ir.Table:
    """One row: each rate over everyone and everything, ``prior_<rate>``; zero where nothing was seen."""
    totals = counts.aggregate(**{name: counts[f"{name}_30d"].sum().fill_null(0) for name in COUNTED})
    return totals.select(
        **{f"prior_{rate}": ratio(totals[part], totals[whole]) for rate, (part, whole) in RATES.items()}
    )


def rate(t: ir.Table, name: str, window: str = "30d", whose: str = "") -> ir.FloatingColumn:
    """A rate with a prior worth ``SMOOTHING`` observations (empirical Bayes): the overall mean, and for a
    shorter window the same rate over the next longer one."""
    smoothed = _smoothed(t, name, window, whose) / SCALES.get(name, 1)
    return log(smoothed) if name == "mean_watch_s" else smoothed


def windowed(t: ir.Table, view: ViewSpec) -> dict[str, ir.FloatingColumn]:
    """ln(1 + x) of those counts per window that a view asks for."""
    amounts = {
        _feature(name, window): (f"{name}_{window}", 1000.0 if name == "watch_ms" else 1.0)
        for window in WINDOWS
        for name in COUNTED
    }
    return {
        feature: log(t[column] / scale)
        for feature, (column, scale) in amounts.items()
        if feature in view.names
    }


def finished(t: ir.Table, features: Mapping[str, ir.Value], view: ViewSpec, *more: str) -> ir.Table:
    """The key, further columns, and a view's features but the components of vectors, ordered by key."""
    columns = {name: features[name].cast("float32") for name in view.plain}
    return t.select(view.key, *more, **columns).order_by(view.key)


def _integer(flag: ir.BooleanValue) -> ir.IntegerValue:
    return flag.fill_null(False).cast("int64")


def _micros(time: ir.TimestampColumn) -> ir.IntegerColumn:
    epoch = ibis.literal(EPOCH, type="timestamp('UTC', 6)")
    return time.delta(epoch, unit="microsecond")


def _feature(column: str, window: str) -> str:
    """Name of the feature that a counted column becomes in a window."""
    return f"{'watch_s' if column == 'watch_ms' else column}_{window}"


def _smoothed(t: ir.Table, name: str, window: str, whose: str) -> ir.FloatingColumn:
    part, whole = (t[f"{whose}{column}_{window}"].cast("float64") for column in RATES[name])
    longer = _LONGER.get(window)
    prior = _smoothed(t, name, longer, whose) if longer else t[f"prior_{name}"]
    return (part + prior * SMOOTHING) / (whole + SMOOTHING)
