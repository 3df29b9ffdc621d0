"""The features of videos and of their creators as Ibis expressions (:mod:`feature_repo.aggregates`)."""

import ibis
import ibis.expr.types as ir

from feature_repo.aggregates import (
    COUNTED,
    PPM,
    RATES,
    counts_of,
    finished,
    joined,
    log,
    means,
    rate,
    windowed,
    within,
)
from feature_repo.specs import CREATOR, QUANTILES, VIDEO, WINDOWS
from upnext.times import DAY_US, HOUR_US

BINS = 20
"""Of the watched part; a quantile is told in these steps."""
_OF_CREATOR = "creator_"


def video_features(past: ir.Table, videos: ir.Table) -> ir.Table:
    """Features of every video there is: video_id, creator_id, then those of ``VIDEO``, ordered by id.

    Parameters
    ----------
    past
        :func:`~feature_repo.aggregates.facts` as of the snapshot's time, by ``known_us``.
    videos
        The catalogue as of that time, by ``uploaded_at``.
    """
    month = within(past, 30)
    counts = counts_of(month, VIDEO, tuple(WINDOWS))
    base = videos.select("video_id", "creator_id", "category", "region", "age_us", "duration_ms")
    t = joined(base, counts, "video_id")
    t = joined(t, _viewers(within(past, 7)), "video_id")
    t = joined(t, _quantiles(month), "video_id")
    t = joined(t, _creators(t), "creator_id", keep=("newest_us",), prefix=_OF_CREATOR)
    t = t.cross_join(means(counts))
    features = {
        **windowed(t, VIDEO),
        **{
            name if window == "30d" else f"{name}_{window}": rate(t, name, window)
            for window in WINDOWS
            for name in RATES
        },
        **{name: t[name] / float(BINS) for name in VIDEO.plain if name.startswith("watch_p")},
        "age_h": log(t.age_us / HOUR_US).fill_null(-1.0),
        "duration_s": log(t.duration_ms / 1000.0).fill_null(-1.0),
        "viewers_7d": log(t.viewers_7d),
        "trend": ((t.watches_1d + 1.0) / (t.watches_7d / 7.0 + 1.0)).ln(),
        "popularity": ibis.percent_rank().over(order_by=t.watches_7d),
        "category_popularity": ibis.percent_rank().over(group_by=t.category, order_by=t.watches_7d),
        "region_popularity": ibis.percent_rank().over(group_by=t.region, order_by=t.watches_7d),
        **_of_creator(t),
    }
    return finished(t, features, VIDEO, "creator_id")


def creator_features(videos: ir.Table) -> ir.Table:
    """Features of every creator, out of those of its videos: creator_id, then those of ``CREATOR``."""
    known = videos.filter(videos.creator_id.notnull())
    columns = {name: known[f"{_OF_CREATOR}{name}"].max() for name in CREATOR.plain}  # all of them are alike
    return known.group_by(CREATOR.key).aggregate(**columns).order_by(CREATOR.key)


def _of_creator(t: ir.Table) -> dict[str, ir.FloatingColumn]:
    features = {
        "videos": log(t.creator_videos),
        "watches_7d": log(t.creator_watches_7d),
        **{f"{name}_30d": log(t[f"creator_{name}_30d"]) for name in ("impressions", "clicks", "watches")},
        "watch_s_30d": log(t.creator_watch_ms_30d / 1000.0),
        **{name: rate(t, name, whose=_OF_CREATOR) for name in RATES},
        "idle_h": log(t.creator_newest_us / HOUR_US).fill_null(-1.0),
    }
    return {f"{_OF_CREATOR}{name}": feature for name, feature in features.items()}


def _creators(videos: ir.Table) -> ir.Table:
    """Counts of each creator, from those of its videos, and the age in µs of the newest."""
    known = videos.filter(videos.creator_id.notnull())
    sums = [f"{name}_30d" for name in COUNTED] + ["watches_7d"]
    return known.group_by("creator_id").aggregate(
        videos=known.count(),
        newest_us=known.age_us.min(),
        **{name: known[name].sum().cast("int64") for name in sums},
    )


def _viewers(week: ir.Table) -> ir.Table:
    """Distinct viewers who watched each video."""
    pairs = week.filter(week.watches > 0).select("video_id", "user_id").distinct()
    return pairs.group_by("video_id").aggregate(viewers_7d=pairs.count())


def _quantiles(month: ir.Table) -> ir.Table:
    """Quantiles of the watched part, in BINS: upper edge of the first bin that enough watches stay within.

    Watches are counted per video and bin, so that they need no order and any engine finds the same.
    """
    watched = month.filter(month.timed > 0)
    bin_ = ibis.least(watched.fraction_ppm * BINS // PPM, BINS - 1)
    aged = watched.mutate(bin=bin_)
    per_bin = aged.group_by(["video_id", "bin"]).aggregate(
        **{f"n_{w}": aged.count(where=aged.age_us <= WINDOWS[w] * DAY_US) for w in ("7d", "30d")}
    )
    everything = ibis.window(group_by="video_id")
    up_to = ibis.cumulative_window(group_by="video_id", order_by="bin")
    t = per_bin.mutate(
        **{f"below_{w}": per_bin[f"n_{w}"].sum().over(up_to) for w in ("7d", "30d")},
        **{f"all_{w}": per_bin[f"n_{w}"].sum().over(everything) for w in ("7d", "30d")},
    )
    return t.group_by("video_id").aggregate(
        **{
            f"watch_p{quantile}_{w}": (t.bin + 1).min(
                where=(t[f"all_{w}"] > 0) & (t[f"below_{w}"] * 100 >= t[f"all_{w}"] * quantile)
            )
            for w in ("7d", "30d")
            for quantile in QUANTILES
        }
    )
