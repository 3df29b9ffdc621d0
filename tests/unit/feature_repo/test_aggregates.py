"""The Ibis expressions against plain Python that follows the descriptions."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from feature_repo.aggregates import SMOOTHING, as_of, facts
from feature_repo.specs import CREATOR, DAYPARTS, QUANTILES, USER, VIDEO, WINDOWS
from feature_repo.user_aggregates import user_features, watched_pairs
from feature_repo.video_aggregates import creator_features, video_features
from tests.support.small_log import END, START, Log, outcome, outcomes, small_log

Row = dict[str, Any]
AT = [START + timedelta(days=1, hours=7), START + timedelta(days=9), END]


def computed(log: Log, at: datetime) -> tuple[pa.Table, pa.Table]:
    con = ibis.duckdb.connect(threads=1)
    for name in ("outcomes", "videos", "users"):
        con.con.register(name, getattr(log, name))
    past = as_of(facts(con.table("outcomes"), con.table("videos")), "known_us", at)
    users = user_features(past, as_of(con.table("users"), "created_at", at)).to_pyarrow()
    videos = video_features(past, as_of(con.table("videos"), "uploaded_at", at)).to_pyarrow()
    con.disconnect()
    return users, videos


def creators_of(videos: pa.Table) -> dict[str, Row]:
    con = ibis.duckdb.connect(threads=1)
    con.con.register("videos", videos)
    rows = creator_features(con.table("videos")).to_pyarrow().to_pylist()
    con.disconnect()
    return {row["creator_id"]: row for row in rows}


def log1p(value: float) -> float:
    return math.log(1 + max(value, 0))


def counts(rows: Iterable[Row]) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in rows:
        seen = bool(row["shown"]) or row["watch_ms"] is not None
        total["impressions"] += row["shown"]
        total["clicks"] += row["clicked"]
        total["watches"] += row["watched"]
        total["watch_ms"] += row["watch_ms"] or 0
        total["likes"] += row["liked"]
        total["shares"] += row["shared"]
        total["not_interested"] += row["not_interested"]
        total["seen"] += seen
        total["shown_clicks"] += row["shown"] and row["clicked"]
        total["seen_likes"] += seen and row["liked"]
        total["seen_shares"] += seen and row["shared"]
        total["seen_not_interested"] += seen and row["not_interested"]
        total["long_views"] += seen and row["watch_fraction"] > 0.5
        total["fraction"] += row["watch_fraction"] if seen else 0  # type: ignore[assignment]
    return total


RATES = {
    "ctr": ("shown_clicks", "impressions"),
    "long_view_rate": ("long_views", "seen"),
    "like_rate": ("seen_likes", "seen"),
    "share_rate": ("seen_shares", "seen"),
    "not_interested_rate": ("seen_not_interested", "seen"),
    "mean_watch_fraction": ("fraction", "seen"),
    "mean_watch_s": ("watch_ms", "seen"),
}


def rates(mine: Counter[str], everyone: Counter[str]) -> dict[str, float]:
    out = {}
    for name, (part, whole) in RATES.items():
        prior = everyone[part] / everyone[whole] if everyone[whole] else 0.0
        out[name] = (mine[part] + SMOOTHING * prior) / (mine[whole] + SMOOTHING)
    out["mean_watch_s"] = log1p(out["mean_watch_s"] / 1000)
    return out


def windowed_rates(mine: list[Row], at: datetime, everyone: Counter[str]) -> dict[str, float]:
    """Rates over 30, 7 and 1 days, each the prior of the next."""
    out: dict[str, float] = {}
    for name, (part, whole) in RATES.items():
        prior = everyone[part] / everyone[whole] if everyone[whole] else 0.0
        for window, days in reversed(WINDOWS.items()):
            total = counts(within(mine, at, days))
            prior = (total[part] + SMOOTHING * prior) / (total[whole] + SMOOTHING)
            named = name if window == "30d" else f"{name}_{window}"
            out[named] = log1p(prior / 1000) if name == "mean_watch_s" else prior
    return out


def quantiles(mine: list[Row], at: datetime) -> dict[str, float]:
    out = {}
    for window in ("7d", "30d"):
        parts = sorted(
            row["watch_fraction"]
            for row in within(mine, at, WINDOWS[window])
            if row["watched"] and row["watch_ms"] is not None and row["duration_ms"] is not None
        )
        for quantile in QUANTILES:
            place = math.ceil(len(parts) * quantile / 100) - 1
            found = (min(math.floor(round(parts[place] * 1e6) / 50_000), 19) + 1) / 20 if parts else 0.0
            out[f"watch_p{quantile}_{window}"] = found
    return out


def windowed(rows: list[Row], at: datetime) -> dict[str, float]:
    out = {}
    for window, days in WINDOWS.items():
        total = counts(within(rows, at, days))
        for name in ("impressions", "clicks", "watches", "likes", "shares", "not_interested"):
            out[f"{name}_{window}"] = log1p(total[name])
        out[f"watch_s_{window}"] = log1p(total["watch_ms"] / 1000)
    return out


def within(rows: Iterable[Row], at: datetime, days: int) -> list[Row]:
    return [row for row in rows if at - timedelta(days=days) <= row["engaged_at"] < at]


def percentile(value: float, values: list[float]) -> float:
    return sum(other < value for other in values) / (len(values) - 1) if len(values) > 1 else 0.0


def expected_videos(log: Log, at: datetime) -> dict[str, dict[str, float]]:
    rows = within(log.outcomes.to_pylist(), at, 30)
    there = [row for row in log.videos.to_pylist() if row["uploaded_at"] is None or row["uploaded_at"] < at]
    of = {video["video_id"]: [row for row in rows if row["video_id"] == video["video_id"]] for video in there}
    week = {name: counts(within(mine, at, 7))["watches"] for name, mine in of.items()}
    everyone = counts(rows)
    out = {}
    for video in there:
        mine, name = of[video["video_id"]], video["video_id"]
        same = [other for other in there if other["category"] == video["category"]]
        by_creator = [
            other for other in there if video["creator_id"] and other["creator_id"] == video["creator_id"]
        ]
        of_creator = [row for other in by_creator for row in of[other["video_id"]]]
        creator = counts(of_creator)
        in_region = [other for other in there if other["region"] == video["region"]]
        uploads = [other["uploaded_at"] for other in by_creator if other["uploaded_at"]]
        day = counts(within(mine, at, 1))["watches"]
        age = None if video["uploaded_at"] is None else (at - video["uploaded_at"]).total_seconds() / 3600
        out[name] = {
            **windowed(mine, at),
            **windowed_rates(mine, at, everyone),
            **quantiles(mine, at),
            "age_h": -1.0 if age is None else log1p(age),
            "duration_s": -1.0 if video["duration_ms"] is None else log1p(video["duration_ms"] / 1000),
            "viewers_7d": log1p(len({row["user_id"] for row in within(mine, at, 7) if row["watched"]})),
            "trend": math.log((day + 1) / (week[name] / 7 + 1)),
            "popularity": percentile(week[name], list(week.values())),
            "category_popularity": percentile(week[name], [week[other["video_id"]] for other in same]),
            "region_popularity": percentile(week[name], [week[other["video_id"]] for other in in_region]),
            "creator_videos": log1p(len(by_creator)),
            "creator_watches_7d": log1p(counts(within(of_creator, at, 7))["watches"]),
            **{f"creator_{name}_30d": log1p(creator[name]) for name in ("impressions", "clicks", "watches")},
            "creator_watch_s_30d": log1p(creator["watch_ms"] / 1000),
            **{f"creator_{name}": rate for name, rate in rates(creator, everyone).items()},
            "creator_idle_h": log1p((at - max(uploads)).total_seconds() / 3600) if uploads else -1.0,
        }
    return out


def expected_users(log: Log, at: datetime) -> dict[str, dict[str, float]]:
    video = {row["video_id"]: row for row in log.videos.to_pylist()}
    rows = within(log.outcomes.to_pylist(), at, 90)
    joined = [row for row in log.users.to_pylist() if row["created_at"] is None or row["created_at"] < at]
    profile = {row["user_id"]: row for row in joined}
    everyone = profile.keys() | {row["user_id"] for row in rows}
    overall = counts(within(rows, at, 30))
    return {
        name: expected_user([row for row in rows if row["user_id"] == name], name, at, overall, video)
        | {
            f"{field}_share": share(field, name, everyone, profile)
            for field in ("region", "device", "age_group", "language")
        }
        | {"tenure_d": tenure([row for row in rows if row["user_id"] == name], profile.get(name), at)}
        for name in everyone
    }


def sessions(rows: list[Row]) -> int:
    return len({row["session_id"] or row["request_id"] or row["date"] for row in rows})


def share_of(rows: list[Row], chosen: Callable[[datetime], bool]) -> float:
    return sum(chosen(row["engaged_at"]) for row in rows) / len(rows) if rows else 0.0


def expected_user(
    mine: list[Row], name: str, at: datetime, overall: Counter[str], video: dict[str, Row]
) -> dict[str, float]:
    month = within(mine, at, 30)
    watched = [row for row in month if row["watched"]]
    lengths = [row["duration_ms"] for row in watched if row["duration_ms"] is not None]
    categories = Counter(video[row["video_id"]]["category"] for row in watched)
    categories.pop(None, None)
    creators = Counter(video[row["video_id"]]["creator_id"] for row in watched)
    creators.pop(None, None)
    days = max(sessions(month), 1)
    total = sum(categories.values())
    last = max((row["engaged_at"] for row in mine), default=None)
    return {
        **windowed(mine, at),
        **rates(counts(month), overall),
        "mean_duration_s": log1p(sum(lengths) / len(lengths) / 1000) if lengths else 0.0,
        "categories_30d": log1p(len(categories)),
        "creators_30d": log1p(len(creators)),
        "category_entropy": -sum(n / total * math.log(n / total) for n in categories.values()),
        "top_category_share": max(categories.values()) / total if total else 0.0,
        "top_creator_share": max(creators.values()) / sum(creators.values()) if creators else 0.0,
        "session_watches": log1p(len(watched) / days),
        "session_watch_s": log1p(counts(month)["watch_ms"] / days / 1000),
        **{
            f"{name}_share": share_of(watched, lambda time, part=part: time.hour // 6 == part)
            for part, name in enumerate(DAYPARTS)
        },
        "weekend_share": share_of(watched, lambda time: time.weekday() >= 5),
        "idle_h": -1.0 if last is None else log1p((at - last).total_seconds() / 3600),
        "sessions_7d": log1p(sessions(within(mine, at, 7))),
        "sessions_30d": log1p(sessions(month)),
    }


def share(field: str, name: str, everyone: set[str], profile: dict[str, Row]) -> float:
    value = profile.get(name, {}).get(field)
    same = sum(profile.get(other, {}).get(field) == value for other in everyone)
    return same / len(everyone) if value is not None else 0.0


def tenure(mine: list[Row], profile: Row | None, at: datetime) -> float:
    joined = profile and profile["created_at"]
    start = joined or min((row["engaged_at"] for row in mine), default=None)
    return -1.0 if start is None else log1p((at - start).total_seconds() / 86_400)


@pytest.mark.parametrize(("seed", "at"), list(enumerate(AT)))
def test_features_are_what_their_descriptions_say(seed: int, at: datetime) -> None:
    log = small_log(seed)
    users, videos = computed(log, at)
    for table, view, expected in (
        (users, USER, expected_users(log, at)),
        (videos, VIDEO, expected_videos(log, at)),
    ):
        assert table[view.key].to_pylist() == sorted(expected)
        for name in view.plain:
            want = [expected[entity][name] for entity in table[view.key].to_pylist()]
            np.testing.assert_allclose(table[name].to_numpy(), want, rtol=2e-5, atol=2e-6, err_msg=name)


def test_columns_are_the_declared_ones_in_their_order() -> None:
    users, videos = computed(small_log(rows=5), END)
    assert users.column_names == [USER.key, *USER.plain]
    assert videos.column_names == [VIDEO.key, "creator_id", *VIDEO.plain]
    assert set(users.schema.types[1:]) | set(videos.schema.types[2:]) == {pa.float32()}


def test_an_event_at_the_time_of_the_snapshot_is_not_in_it() -> None:
    log = small_log()
    late = outcomes([outcome("u1", "v1", END, watched=True, watch_ms=9_000, watch_fraction=1.0, liked=True)])
    pending = outcomes(
        [outcome("u2", "v2", END - timedelta(minutes=5), engaged_at=END, liked=True, watched=True)]
    )
    more = Log(pa.concat_tables([log.outcomes, late, pending]), log.videos, log.users)
    assert computed(more, END) == computed(log, END)


def test_history_of_unknown_length_counts_as_watches_and_not_in_the_rates() -> None:
    at = START + timedelta(days=1)
    log = small_log(rows=0)
    history = [outcome(f"u{n}", "v1", START, shown=False, watched=True, watch_fraction=1.0) for n in range(4)]
    _, videos = computed(Log(outcomes(history), log.videos, log.users), at)
    row = next(row for row in videos.to_pylist() if row["video_id"] == "v1")
    assert row["watches_7d"] == pytest.approx(math.log(5))
    assert row["viewers_7d"] == pytest.approx(math.log(5))
    assert row["long_view_rate"] == row["mean_watch_fraction"] == 0.0


def test_nothing_ever_happened() -> None:
    log = small_log(rows=0)
    users, videos = computed(log, END)
    assert users.num_rows == 11
    assert videos.num_rows == log.videos.num_rows
    for table in (users, videos):
        for name in table.column_names[1:]:
            if name == "creator_id":
                continue
            assert table[name].null_count == 0
            assert np.isfinite(table[name].to_numpy()).all(), name


def test_rows_in_another_order_give_the_same_bytes() -> None:
    log = small_log()
    shuffled = np.random.default_rng(1).permutation(log.outcomes.num_rows)
    other = Log(log.outcomes.take(shuffled), log.videos.slice(3), log.users)
    whole = Log(log.outcomes, log.videos.slice(3), log.users)
    assert computed(whole, END) == computed(other, END)


def test_a_creators_features_are_those_in_its_videos() -> None:
    videos = computed(small_log(), END)[1]
    of_creator = creators_of(videos)
    assert set(of_creator) == set(videos["creator_id"].to_pylist()) - {None}
    for row in videos.to_pylist():
        if row["creator_id"]:
            for name in CREATOR.plain:
                assert row[f"creator_{name}"] == of_creator[row["creator_id"]][name]


def test_pairs_that_tastes_are_made_of() -> None:
    at, log = START + timedelta(days=20), small_log(rows=0)
    rows = [
        outcome("u1", "v1", at - timedelta(days=8), watched=True, watch_ms=900, watch_fraction=0.5),
        outcome(
            "u1", "v1", at - timedelta(days=2), watched=True, watch_ms=100, watch_fraction=0.2, liked=True
        ),
        outcome("u1", "v2", at - timedelta(days=1), clicked=True),
        outcome("u2", "v2", at - timedelta(days=1), watched=True, watch_ms=7, not_interested=True),
        outcome("u2", "v4", at - timedelta(days=1)),
        outcome("u2", "v5", at - timedelta(days=31), watched=True, watch_ms=7, watch_fraction=1.0),
    ]
    con = ibis.duckdb.connect(threads=1)
    con.con.register("outcomes", outcomes(rows))
    con.con.register("videos", log.videos)
    past = as_of(facts(con.table("outcomes"), con.table("videos")), "known_us", at)
    found = {(row["user_id"], row["video_id"]): row for row in watched_pairs(past).to_pyarrow().to_pylist()}
    con.disconnect()
    assert {pair: (row["watch_ms"], row["strength_ppm"]) for pair, row in found.items()} == {
        ("u1", "v1"): (1_000, 1_200_000),
        ("u1", "v2"): (0, 100_000),
        ("u2", "v2"): (7, 0),
    }
