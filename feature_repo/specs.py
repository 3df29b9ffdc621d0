"""Every feature of users and videos: its name, unit, meaning, and its value where nothing is known.

Feast's views (:mod:`feature_repo.views`) are made of these, in this order, and :mod:`feature_repo.aggregates`
computes them. Counts and amounts are stored as ln(1 + x), so that they suit both a network and float16.
"""

from dataclasses import dataclass

WINDOWS = {"1d": 1, "7d": 7, "30d": 30}
"""Name of a window and its length in days."""
USER_VIEW = "user_features"
VIDEO_VIEW = "video_features"

LOG_COUNT = "ln(1+count)"
LOG_SECONDS = "ln(1+s)"
SHARE = "share"


@dataclass(frozen=True)
class FeatureSpec:
    """One feature; ``default`` stands in where an entity has no value at all."""

    name: str
    unit: str
    description: str
    default: float = 0.0
    dtype: str = "float32"


@dataclass(frozen=True)
class ViewSpec:
    """One feature view: the features of one entity, in their order."""

    name: str
    entity: str
    description: str
    features: tuple[FeatureSpec, ...]

    @property
    def key(self) -> str:
        """Column that names the entity."""
        return f"{self.entity}_id"

    @property
    def table(self) -> str:
        """Delta table that holds the snapshots."""
        return f"features_{self.entity}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)


def _windowed(counts: dict[str, tuple[str, str]], windows: tuple[str, ...]) -> tuple[FeatureSpec, ...]:
    return tuple(
        FeatureSpec(f"{name}_{window}", unit, f"{text}, last {WINDOWS[window]} d")
        for name, (unit, text) in counts.items()
        for window in windows
    )


def _rates(whose: str) -> tuple[FeatureSpec, ...]:
    """Rates over the last 30 days, each pulled towards everyone's mean where there is little evidence."""
    smoothed = f"{whose}, last 30 d, smoothed towards the mean over all"
    return (
        FeatureSpec("ctr", SHARE, f"clicks per impression {smoothed}"),
        FeatureSpec("long_view_rate", SHARE, f"share watched for more than half {smoothed}"),
        FeatureSpec("like_rate", SHARE, f"likes per video seen {smoothed}"),
        FeatureSpec("share_rate", SHARE, f"shares per video seen {smoothed}"),
        FeatureSpec("not_interested_rate", SHARE, f"not-interested per video seen {smoothed}"),
        FeatureSpec("mean_watch_fraction", SHARE, f"watched part of a video seen {smoothed}"),
        FeatureSpec("mean_watch_s", LOG_SECONDS, f"watch time per video seen {smoothed}"),
    )


_ACTIVITY = {
    "impressions": (LOG_COUNT, "impressions"),
    "clicks": (LOG_COUNT, "clicks"),
    "watches": (LOG_COUNT, "watches, those of unknown length too"),
    "watch_s": (LOG_SECONDS, "seconds watched"),
}
_REACTIONS = {
    "likes": (LOG_COUNT, "likes"),
    "shares": (LOG_COUNT, "shares"),
    "not_interested": (LOG_COUNT, "not-interested"),
}

VIDEO = ViewSpec(
    VIDEO_VIEW,
    "video",
    "Reception, freshness and creator of a video as of a snapshot",
    (
        *_windowed(_ACTIVITY, ("1d", "7d", "30d")),
        *_windowed(_REACTIONS, ("1d", "7d", "30d")),
        *_rates("of the video"),
        FeatureSpec("age_h", "ln(1+h)", "hours since upload; -1 unknown", -1.0),
        FeatureSpec("duration_s", LOG_SECONDS, "length of the video; -1 unknown", -1.0),
        FeatureSpec("viewers_7d", LOG_COUNT, "distinct viewers who watched it, last 7 d"),
        FeatureSpec("trend", "ln(ratio)", "watches of the last day against the daily mean of the last 7 d"),
        FeatureSpec("popularity", SHARE, "percentile of its watches of the last 7 d among all videos"),
        FeatureSpec("category_popularity", SHARE, "the same percentile within its category"),
        FeatureSpec("creator_videos", LOG_COUNT, "videos its creator had uploaded"),
        FeatureSpec("creator_impressions_30d", LOG_COUNT, "impressions of its creator's videos, last 30 d"),
        FeatureSpec("creator_watches_30d", LOG_COUNT, "watches of its creator's videos, last 30 d"),
        FeatureSpec("creator_ctr", SHARE, "clicks per impression of its creator, last 30 d, smoothed"),
        FeatureSpec(
            "creator_long_view_rate", SHARE, "long views per video seen of its creator, last 30 d, smoothed"
        ),
        FeatureSpec(
            "creator_mean_watch_s",
            LOG_SECONDS,
            "watch time per video seen of its creator, last 30 d, smoothed",
        ),
    ),
)
"""Features of a video."""

USER = ViewSpec(
    USER_VIEW,
    "user",
    "Activity, taste and profile of a viewer as of a snapshot",
    (
        *_windowed(_ACTIVITY, ("1d", "7d", "30d")),
        *_windowed(_REACTIONS, ("30d",)),
        *_rates("by the viewer"),
        FeatureSpec("mean_duration_s", LOG_SECONDS, "mean length of the videos watched, last 30 d"),
        FeatureSpec("categories_30d", LOG_COUNT, "distinct categories watched, last 30 d"),
        FeatureSpec("creators_30d", LOG_COUNT, "distinct creators watched, last 30 d"),
        FeatureSpec("category_entropy", "nat", "entropy of the categories watched, last 30 d"),
        FeatureSpec("top_category_share", SHARE, "share of the category watched most, last 30 d"),
        FeatureSpec("idle_h", "ln(1+h)", "hours since the last activity within 90 d; -1 none", -1.0),
        FeatureSpec("sessions_7d", LOG_COUNT, "sessions, last 7 d"),
        FeatureSpec("sessions_30d", LOG_COUNT, "sessions, last 30 d"),
        FeatureSpec(
            "tenure_d", "ln(1+d)", "days since sign-up, else since first seen within 90 d; -1 unknown", -1.0
        ),
        FeatureSpec("region_share", SHARE, "share of viewers in the same region; 0 unknown"),
        FeatureSpec("device_share", SHARE, "share of viewers on the same device; 0 unknown"),
        FeatureSpec("age_group_share", SHARE, "share of viewers of the same age group; 0 unknown"),
        FeatureSpec("language_share", SHARE, "share of viewers of the same language; 0 unknown"),
    ),
)
"""Features of a viewer."""

VIEWS = {USER.name: USER, VIDEO.name: VIDEO}
