"""What viewers do: worked by hand where it can be, and the effects a recommender has to find."""

from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from upnext.contracts import EVENTS
from upnext.world.behaviour import respond
from upnext.world.catalogue import Videos
from upnext.world.config import DAY_US, START, START_US, WorldConfig
from upnext.world.expectation import Audience, fatigue, foresee
from upnext.world.geography import DIMENSIONS, TOPICS
from upnext.world.population import draw_viewers, tastes_at, vectors_at
from upnext.world.state import SessionState
from upnext.world.world import World

NOON = START + timedelta(days=5, hours=12)


def few_videos(n: int) -> Videos:
    """Videos along the first axis, a minute each, of middling quality and out of fashion."""
    vector = np.zeros((n, DIMENSIONS), dtype=np.float32)
    vector[:, 0] = 1.0
    return Videos(
        rows=np.arange(n),
        creator=np.arange(n, dtype=np.int32),
        topic=np.zeros(n, dtype=np.int8),
        language=np.zeros(n, dtype=np.int8),
        region=np.zeros(n, dtype=np.int8),
        quality=np.zeros(n, dtype=np.float32),
        trend=np.zeros(n, dtype=np.float32),
        duration_s=np.full(n, 60.0, dtype=np.float32),
        uploaded_us=np.full(n, START_US - 300 * DAY_US),
        restricted=np.zeros(n, dtype=np.bool_),
        vector=vector,
    )


def viewers_of(n: int, affinity: float = 0.5) -> Audience:
    """Viewers on a mobile, in English, who like the first axis by ``affinity``."""
    vector = np.zeros((n, DIMENSIONS), dtype=np.float32)
    vector[:, 0] = affinity
    zeros = np.zeros(n, dtype=np.int8)
    return Audience(np.arange(n), np.full(n, START_US), vector, zeros, zeros, zeros > 0, np.zeros(n))


def opened(audience: Audience) -> SessionState:
    return SessionState.open(1, audience.rows, audience.at_us)


def test_expectations_by_hand():
    audience, videos = viewers_of(1), few_videos(3)
    outlook = foresee(audience, videos, np.array([[0, 1, -1]], dtype=np.int32), opened(audience))
    # Top slot: -1.85 + 3.4 * 0.5 + 0.1 for mobile = -0.05; one minute and middling quality add nothing.
    click = 1 / (1 + np.exp(0.05))
    # Hold: 32 s * e^(1.2 * 0.5) = 58.31 s of 60 s: logit 1.4 * ln(58.31 / 60) = -0.03997.
    fraction = 1 / (1 + np.exp(-1.4 * (np.log(32 / 60) + 0.6)))
    assert np.isclose(fraction, 0.49000, atol=1e-4)
    assert np.isclose(outlook.click[0, 0], click)
    assert np.isclose(outlook.fraction[0, 0], fraction)
    assert np.isclose(outlook.watch_ms[0, 0], 60_000 * click * (0.98 * fraction + 0.02 * 1.5))
    # Second slot: the same topic once more costs 0.10, and 1 / 1.1 of the viewers look at it.
    assert np.isclose(outlook.click[0, 1], 1 / 1.1 / (1 + np.exp(0.15)))
    assert outlook.click[0, 2] == outlook.watch_ms[0, 2] == 0


def test_fatigue_by_hand():
    videos = replace(
        few_videos(4),
        topic=np.array([0, 0, 1, 1], dtype=np.int8),
        creator=np.array([7, 8, 7, 9], dtype=np.int32),
    )
    slates = np.array([[0, 1, 2, 0, -1]], dtype=np.int32)
    fresh = SessionState.open(1, np.array([0]), np.array([START_US]))
    cost = fatigue(videos, slates, fresh)[0, :4]
    assert np.allclose(cost, [0, -0.10, -0.35, 2 * -0.10 + 2 * -0.35 - 2.5])
    later = fresh.after(videos, slates, np.array([[True, False, False, False, False]]))
    cost = fatigue(videos, np.array([[0, 3]], dtype=np.int32), later)[0]
    assert np.allclose(cost, [3 * -0.10 + 3 * -0.35 - 2.5, -0.10])
    assert fresh.page[0] == 0
    assert later.page[0] == 1
    assert later.memory(3).tolist() == [[-1, -1, 0]]


def test_outcomes_match_their_expectations():
    audience, videos = viewers_of(20_000), few_videos(5)
    slates = np.tile(np.arange(5, dtype=np.int32), (20_000, 1))
    state = opened(audience)
    outlook = foresee(audience, videos, slates, state)
    outcome, _ = respond(1, audience, videos, slates, state)
    assert np.allclose(outcome.clicked.mean(axis=0), outlook.click.mean(axis=0), atol=0.012)
    assert np.allclose(outcome.watch_ms.mean(axis=0), outlook.watch_ms.mean(axis=0), rtol=0.04)
    assert (outcome.watch_ms[~outcome.clicked] == 0).all()
    assert 0 < (outcome.fraction > 1).mean() < 0.02
    assert not (outcome.liked & outcome.not_interested).any()
    assert (np.diff(outcome.seen_us, axis=1) > 0).all()
    assert (outcome.left_us > outcome.seen_us[:, -1]).all()


def test_minors_do_not_watch_what_is_restricted():
    audience = replace(viewers_of(500), minor=np.arange(500) < 250)
    videos = replace(few_videos(1), restricted=np.array([True]))
    outcome, _ = respond(1, audience, videos, np.zeros((500, 1), dtype=np.int32), opened(audience))
    assert not outcome.clicked[:250].any()
    assert outcome.clicked[250:].any()


def test_luck_belongs_to_viewer_video_and_hour_not_to_the_slate(small):
    viewers = np.arange(200)
    alone = small.watch_ms(viewers, np.full((200, 1), 5, dtype=np.int32), NOON)
    first = small.watch_ms(viewers, np.tile(np.array([5, 9, 2], dtype=np.int32), (200, 1)), NOON)
    assert np.array_equal(alone[:, 0], first[:, 0])
    later = small.watch_ms(viewers, np.full((200, 1), 5, dtype=np.int32), NOON + timedelta(hours=1))
    assert not np.array_equal(alone, later)


def test_judge_reads_ids(small):
    viewers, slates = ["u00000003", "u00000001"], [["v00000009", ""], ["v00000002", "v00000009"]]
    rows = np.array([[9, -1], [2, 9]], dtype=np.int32)
    for expected in (False, True):
        judged = small.judge(viewers, slates, NOON, expected)
        assert np.array_equal(judged, small.watch_ms(np.array([3, 1]), rows, NOON, expected))
    assert judged[0, 1] == 0
    assert (judged[[0, 1, 1], [0, 0, 1]] > 0).all()


def test_an_answer_is_events_and_a_new_state(small):
    viewers = np.arange(50)
    slates = np.random.default_rng(0).integers(0, 600, (50, 6)).astype(np.int32)
    slates[:, 4] = -1
    state = small.open(viewers, NOON)
    before = {field.name: getattr(state, field.name).copy() for field in fields(state)}
    names = [f"request-{row}" for row in viewers]
    answer = small.answer(viewers, slates, NOON, state, surface="topic", request_ids=names)
    assert all(np.array_equal(getattr(state, name), value) for name, value in before.items())
    assert answer.events.schema.equals(EVENTS)
    impressions = answer.events.filter(pc.equal(answer.events["event_type"], "impression"))
    assert len(impressions) == 50 * 5
    row = impressions.filter(pc.equal(impressions["user_id"], "u00000007")).to_pylist()
    assert {event["request_id"] for event in row} == {"request-7"}
    assert {event["surface"] for event in row} == {"topic"}
    assert sorted(small.video_rows([event["video_id"] for event in row])) == sorted(
        slates[7][[0, 1, 2, 3, 5]]
    )
    watches = answer.events.filter(pc.equal(answer.events["event_type"], "watch"))
    assert pc.sum(watches["watch_duration_ms"]).as_py() == answer.outcome.watch_ms.sum()
    assert small.answer(viewers, slates, NOON, state, surface="topic", request_ids=names).events.equals(
        answer.events
    )

    stay = answer.outcome.stays
    second = small.answer(viewers[stay], slates[stay], answer.outcome.left_us[stay], answer.state.take(stay))
    assert not pc.any(pc.is_in(second.events["event_id"], answer.events["event_id"])).as_py()
    assert pc.all(pc.is_in(second.events["session_id"], answer.events["session_id"])).as_py()
    # The same page again tires: every topic and creator is a repeat, and what was watched was watched.
    assert second.outcome.clicked.sum() < answer.outcome.clicked[stay].sum()
    remembered = small.open(viewers, NOON + timedelta(days=1), answer.state.memory())
    assert fatigue(small.catalogue, slates, remembered)[answer.outcome.clicked].max() <= -2.5


def test_position_bias_shows_in_the_log(small_log):
    by = small_log.group_by(["position", "event_type"]).aggregate([("event_id", "count")]).to_pylist()
    seen = {(row["position"], row["event_type"]): row["event_id_count"] for row in by}
    rate = [seen[p, "click"] / seen[p, "impression"] for p in range(10)]
    assert rate[0] > 1.5 * rate[9]
    assert np.polyfit(np.arange(10), rate, 1)[0] < 0


def test_tastes_drift_smoothly(small):
    viewers = draw_viewers(small.config, small.space, np.arange(300))

    def after(days):
        return vectors_at(small.space, viewers, np.full(300, START_US + int(days * DAY_US)))

    alike = [(after(0) * after(days)).sum(axis=1).mean() for days in (0.04, 1, 7, 21)]
    assert alike[0] > 0.9999
    assert alike[1] > 0.99
    assert 0.6 < alike[3] < 0.97
    assert sorted(alike, reverse=True) == alike
    strong = (tastes_at(viewers, np.full(300, START_US)) > 0.15).sum(axis=1)
    assert 1.5 < strong.mean() < 3.5


@pytest.fixture(scope="module")
def policies() -> dict[str, float]:
    """Mean seconds watched per slot of ten-slot pages under some policies, in a world of medium size."""
    world = World(WorldConfig(users=600, videos=2000, seed=7, days=8))
    at = START + timedelta(days=8)
    viewers, n = np.arange(600), world.live_videos(at)
    log = pa.concat_tables(world.events())
    watched = world.video_rows(log.filter(pc.equal(log["event_type"], "watch"))["video_id"])
    popularity = np.bincount(watched, minlength=n)
    appeal = world.appeal(viewers, at)
    slates = {
        "random": np.random.default_rng(0).integers(0, n, (600, 10)),
        "popularity": np.tile(np.argsort(-popularity, kind="stable")[:10], (600, 1)),
        "longest": np.tile(np.argsort(-world.catalogue.duration_s[:n], kind="stable")[:10], (600, 1)),
        "oracle": np.argsort(-appeal, axis=1)[:, :10],
    }
    return {
        name: world.watch_ms(viewers, slate.astype(np.int32), at).mean() / 1000
        for name, slate in slates.items()
    }


def test_the_truth_beats_popularity_beats_chance(policies):
    assert policies["popularity"] > 1.5 * policies["random"]
    assert policies["oracle"] > 1.8 * policies["popularity"]


def test_the_longest_videos_do_not_win(policies):
    assert policies["longest"] < 0.7 * policies["popularity"]


def test_topics_have_names_enough():
    assert len(set(TOPICS)) == len(TOPICS) == 24
