"""Every stored feature: its name, unit, meaning, and its value where nothing is known.

Feast's views (:mod:`feature_repo.views`) are made of these, in this order. :mod:`feature_repo.aggregates` and
its neighbours compute the batch views, :mod:`feature_repo.stream` the stream views. Counts and amounts are
stored as ln(1 + x), so that they suit both a network and float16; a percentile needs the digits of float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.hashing import CATEGORY_WIDTH, CREATOR_WIDTH, TAG_WIDTH
from models.specs import (
    COMPONENT,
    LOG_COUNT,
    LOG_HOURS,
    LOG_MINUTES,
    LOG_SECONDS,
    SHARE,
    FeatureSpec,
    names_of,
    vector,
)
from models.video_inputs import VISUAL

OWNER = "upnext"
TIMESTAMP = "event_timestamp"
"""Column with the time of a snapshot: everything in the row was known strictly before it."""
WINDOWS = {"1d": 1, "7d": 7, "30d": 30}
"""Name of a window and its length in days."""
STREAM_WINDOWS = {"5m": 5, "1h": 60}
"""Name of a real-time window and its length in minutes."""
QUANTILES = (10, 25, 50, 75, 90)
"""Per cent."""
DAYPARTS = ("night", "morning", "afternoon", "evening")
"""Quarters of the day, UTC, from midnight on."""
USER_VIEW = "user_features"
VIDEO_VIEW = "video_features"
CREATOR_VIEW = "creator_features"
VIDEO_STREAM_VIEW = "video_stream"
USER_STREAM_VIEW = "user_stream"


@dataclass(frozen=True)
class ViewSpec:
    """One feature view: the features of one entity, in their order.

    ``window_minutes`` is how long a stream view's values hold; 0 for a batch view's, until the next snapshot.
    """

    name: str
    entity: str
    description: str
    features: tuple[FeatureSpec, ...]
    owner: str = OWNER
    window_minutes: int = 0

    @property
    def key(self) -> str:
        """Column that names the entity."""
        return f"{self.entity}_id"

    @property
    def table(self) -> str:
        """Delta table that holds the snapshots."""
        return f"{'stream' if self.window_minutes else 'features'}_{self.entity}"

    @property
    def names(self) -> tuple[str, ...]:
        return names_of(self.features)

    @property
    def plain(self) -> tuple[str, ...]:
        """Names of the features that mean something alone: no components of vectors."""
        return names_of([feature for feature in self.features if feature.unit != COMPONENT])


def _windowed(
    counts: dict[str, tuple[str, str]], windows: Sequence[str], whose: str = ""
) -> tuple[FeatureSpec, ...]:
    return tuple(
        FeatureSpec(f"{name}_{window}", unit, f"{text}{whose}, last {WINDOWS[window]} d")
        for name, (unit, text) in counts.items()
        for window in windows
    )


def _rates(whose: str, windows: Sequence[str] = ("30d",)) -> tuple[FeatureSpec, ...]:
    """Rates by window: the longest pulled towards everyone's mean where there is little evidence, a shorter
    one towards the next longer."""
    texts = {
        "ctr": (SHARE, "clicks per impression"),
        "long_view_rate": (SHARE, "share watched for more than half"),
        "like_rate": (SHARE, "likes per video seen"),
        "share_rate": (SHARE, "shares per video seen"),
        "not_interested_rate": (SHARE, "not-interested per video seen"),
        "mean_watch_fraction": (SHARE, "watched part of a video seen"),
        "mean_watch_s": (LOG_SECONDS, "watch time per video seen"),
    }
    towards = {"30d": "the mean over all", "7d": "its rate over 30 d", "1d": "its rate over 7 d"}
    return tuple(
        FeatureSpec(
            name if window == "30d" else f"{name}_{window}",
            unit,
            f"{text} {whose}, last {WINDOWS[window]} d, smoothed towards {towards[window]}",
        )
        for window in windows
        for name, (unit, text) in texts.items()
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

CREATOR = ViewSpec(
    CREATOR_VIEW,
    "creator",
    "Size and reception of a creator as of a snapshot",
    (
        FeatureSpec("videos", LOG_COUNT, "videos the creator had uploaded"),
        *_windowed({"watches": (LOG_COUNT, "watches of the creator's videos")}, ("7d",)),
        *_windowed(_ACTIVITY, ("30d",), " of the creator's videos"),
        *_rates("of the creator's videos"),
        FeatureSpec("idle_h", LOG_HOURS, "hours since the creator's newest upload; -1 unknown", -1.0),
        *vector("hash", CREATOR_WIDTH, "hashed id of the creator"),
    ),
)
"""Features of a creator."""

VIDEO = ViewSpec(
    VIDEO_VIEW,
    "video",
    "Reception, freshness, looks and creator of a video as of a snapshot",
    (
        *_windowed(_ACTIVITY, ("1d", "7d", "30d")),
        *_windowed(_REACTIONS, ("1d", "7d", "30d")),
        *_rates("of the video", ("30d", "7d", "1d")),
        *(
            FeatureSpec(
                f"watch_p{quantile}_{window}",
                SHARE,
                f"watched part that {quantile} % of its watches of known length stay below, "
                f"last {WINDOWS[window]} d, in steps of a twentieth; 0 without any",
            )
            for window in ("7d", "30d")
            for quantile in QUANTILES
        ),
        FeatureSpec("age_h", LOG_HOURS, "hours since upload; -1 unknown", -1.0),
        FeatureSpec("duration_s", LOG_SECONDS, "length of the video; -1 unknown", -1.0),
        FeatureSpec("viewers_7d", LOG_COUNT, "distinct viewers who watched it, last 7 d"),
        FeatureSpec("trend", "ln(ratio)", "watches of the last day against the daily mean of the last 7 d"),
        FeatureSpec(
            "popularity",
            SHARE,
            "percentile of its watches of the last 7 d among all videos",
            dtype="float32",
        ),
        FeatureSpec("category_popularity", SHARE, "the same percentile within its category", dtype="float32"),
        FeatureSpec("region_popularity", SHARE, "the same percentile within its own region", dtype="float32"),
        *(
            replace(feature, name=f"creator_{feature.name}", description=f"{feature.description}, its own")
            for feature in CREATOR.features
        ),
        *vector("category_hash", CATEGORY_WIDTH, "hashed category"),
        *vector("tag_hash", TAG_WIDTH, "hashed words of its tags"),
        *vector("visual", VISUAL, "looks of its thumbnail, by the lake's table visual_embeddings"),
    ),
)
"""Features of a video, its creator's among them, so that a candidate is one read."""

USER = ViewSpec(
    USER_VIEW,
    "user",
    "Activity, taste and profile of a viewer as of a snapshot",
    (
        *_windowed(_ACTIVITY, ("1d", "7d", "30d")),
        *_windowed({name: _REACTIONS[name] for name in ("likes", "shares")}, ("30d",)),
        *_windowed({"not_interested": _REACTIONS["not_interested"]}, ("1d", "7d", "30d")),
        *_rates("by the viewer"),
        FeatureSpec("mean_duration_s", LOG_SECONDS, "mean length of the videos watched, last 30 d"),
        FeatureSpec("categories_30d", LOG_COUNT, "distinct categories watched, last 30 d"),
        FeatureSpec("creators_30d", LOG_COUNT, "distinct creators watched, last 30 d"),
        FeatureSpec("category_entropy", "nat", "entropy of the categories watched, last 30 d"),
        FeatureSpec("top_category_share", SHARE, "share of the category watched most, last 30 d"),
        FeatureSpec("top_creator_share", SHARE, "share of the creator watched most, last 30 d"),
        FeatureSpec("idle_h", LOG_HOURS, "hours since the last activity within 90 d; -1 none", -1.0),
        FeatureSpec("sessions_7d", LOG_COUNT, "sessions, last 7 d"),
        FeatureSpec("sessions_30d", LOG_COUNT, "sessions, last 30 d"),
        FeatureSpec("session_watches", LOG_COUNT, "watches per session, last 30 d"),
        FeatureSpec("session_watch_s", LOG_SECONDS, "watch time per session, last 30 d"),
        *(
            FeatureSpec(f"{part}_share", SHARE, f"share of watches in the {part} (UTC), last 30 d")
            for part in DAYPARTS
        ),
        FeatureSpec("weekend_share", SHARE, "share of watches on Saturday and Sunday (UTC), last 30 d"),
        FeatureSpec(
            "tenure_d", "ln(1+d)", "days since sign-up, else since first seen within 90 d; -1 unknown", -1.0
        ),
        FeatureSpec("region_share", SHARE, "share of viewers in the same region; 0 unknown"),
        FeatureSpec("device_share", SHARE, "share of viewers on the same device; 0 unknown"),
        FeatureSpec("age_group_share", SHARE, "share of viewers of the same age group; 0 unknown"),
        FeatureSpec("language_share", SHARE, "share of viewers of the same language; 0 unknown"),
        *vector("taste_category", CATEGORY_WIDTH, "hashed categories by watch time, last 30 d"),
        *vector("taste_creator", CREATOR_WIDTH, "hashed creators by watch time, last 30 d"),
        *vector("taste_tag", TAG_WIDTH, "hashed words of tags by watch time, last 30 d"),
        *vector("history_tag", TAG_WIDTH, "hashed words of tags by strength of engagement, last 7 d"),
    ),
)
"""Features of a viewer."""


def _live(counts: dict[str, tuple[str, str]], whose: str) -> tuple[FeatureSpec, ...]:
    return tuple(
        FeatureSpec(f"{name}_{window}", unit, f"{text} {whose}, last {minutes} min")
        for window, minutes in STREAM_WINDOWS.items()
        for name, (unit, text) in counts.items()
    )


VIDEO_STREAM = ViewSpec(
    VIDEO_STREAM_VIEW,
    "video",
    "What happens to a video right now, by whole minutes",
    _live(
        {
            **_ACTIVITY,
            "likes": _REACTIONS["likes"],
            "not_interested": _REACTIONS["not_interested"],
        },
        "of the video",
    ),
    window_minutes=60,
)
"""Real-time features of a video."""

USER_STREAM = ViewSpec(
    USER_STREAM_VIEW,
    "user",
    "What a viewer does right now, by whole minutes",
    (
        *_live(
            {
                "watches": _ACTIVITY["watches"],
                "watch_s": _ACTIVITY["watch_s"],
                "not_interested": _REACTIONS["not_interested"],
            },
            "by the viewer",
        ),
        FeatureSpec(
            "session_depth", LOG_COUNT, "engagements of the sitting, which 30 min of nothing end; 0 when over"
        ),
        FeatureSpec(
            "minutes_idle",
            LOG_MINUTES,
            "minutes since the last engagement, 60 when there was none within 60",
            default=4.11087386,
        ),
    ),
    window_minutes=60,
)
"""Real-time features of a viewer."""

VIEWS = {view.name: view for view in (USER, VIDEO, CREATOR)}
"""Batch views: snapshots in the lake."""
STREAMS = {view.name: view for view in (VIDEO_STREAM, USER_STREAM)}
"""Stream views: kept in memory, and in the online store for other processes."""
