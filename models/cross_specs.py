"""What :mod:`models.crosses` and :mod:`models.affinity` compute of a viewer and a candidate together."""

from models.specs import COSINE, FLAG, LOG_COUNT, LOG_HOURS, SHARE, FeatureSpec, names_of

SPACES = {"als": "ALS factors", "tower": "two-tower vectors"}
OWNERS = ("category", "creator")


def _space(name: str, text: str) -> tuple[FeatureSpec, ...]:
    return (
        FeatureSpec(f"{name}_score", "dot product", f"viewer and candidate in {text}"),
        FeatureSpec(
            f"{name}_similarity_max", COSINE, f"candidate and what was liked, the greatest in {text}"
        ),
        FeatureSpec(f"{name}_similarity_mean", COSINE, f"the same, mean by strength in {text}"),
        FeatureSpec(f"{name}_similarity_recent", COSINE, f"the same, the last day weighing most, in {text}"),
        FeatureSpec(f"{name}_neighbours", LOG_COUNT, f"sum of fourth powers of those cosines in {text}"),
    )


def _owner(name: str) -> tuple[FeatureSpec, ...]:
    return (
        FeatureSpec(f"{name}_share", SHARE, f"recent strength spent on the candidate's {name}, smoothed"),
        FeatureSpec(f"{name}_strength", "strength", f"mean strength of the same {name}, smoothed"),
        FeatureSpec(f"{name}_count", LOG_COUNT, f"recent videos of the same {name}"),
        FeatureSpec(f"{name}_hours_since", LOG_HOURS, f"since the same {name} was last seen"),
    )


CROSS_SPECS = (
    *(spec for name, text in SPACES.items() for spec in _space(name, text)),
    *(spec for name in OWNERS for spec in _owner(name)),
    FeatureSpec("seen", FLAG, "the viewer already met the candidate"),
    FeatureSpec("seen_strength", "strength", "what came of that"),
    FeatureSpec("seen_hours_since", LOG_HOURS, "since then"),
    FeatureSpec("popularity", "ln(ratio)", "decayed count of the candidate against the mean"),
    FeatureSpec("popularity_in_region", "ln(ratio)", "the same in the viewer's region"),
    FeatureSpec("hours_since_upload", LOG_HOURS, "age of the candidate at the request"),
    FeatureSpec("duration", "ln(s)", "length of the candidate"),
    FeatureSpec("duration_ratio", "ln(ratio)", "length against what the viewer likes, by strength"),
    FeatureSpec("language_match", FLAG, "candidate in the viewer's language"),
    FeatureSpec("history_size", LOG_COUNT, "recent videos known of the viewer"),
    FeatureSpec("history_strength", "strength", "their mean strength, smoothed"),
    FeatureSpec("hours_idle", LOG_HOURS, "since the viewer's newest engagement"),
    FeatureSpec("visual_similarity", COSINE, "candidate's looks and those of what was liked, mostly today's"),
    FeatureSpec(
        "neighbour_votes", "weight", "what all that was liked says for the candidate, by who liked both"
    ),
)
"""Of :class:`models.crosses.Crosses`; unknown is NaN."""
CROSS_NAMES = names_of(CROSS_SPECS)

AFFINITY_SPECS = (
    FeatureSpec("affinity_category", COSINE, "candidate's category and watch time by category, last 30 d"),
    FeatureSpec("affinity_creator", COSINE, "candidate's creator and watch time by creator, last 30 d"),
    FeatureSpec("affinity_tag", COSINE, "candidate's tags and watch time by tag, last 30 d"),
    FeatureSpec("affinity_history", COSINE, "candidate's tags and tags by strength, last 7 d"),
    FeatureSpec("query_match", COSINE, "candidate's tags and the words of the last search"),
)
"""Of :class:`models.affinity.Affinities`; all but the last come of hashed vectors of the user view."""
AFFINITY_NAMES = names_of(AFFINITY_SPECS)
