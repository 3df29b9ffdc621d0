"""What viewers do with a slate: look, click, watch, like, share, turn away, stay or leave.

Formulas are in docs/world.md. B sessions are answered at once, K slots each; a slot of -1 is empty.
Outcomes are drawn by (viewer, video, hour), never by policy: whoever shows a viewer the same video in the same
hour meets the same luck, so that two policies can be compared pair by pair.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from upnext.world.beta import beta_quantile
from upnext.world.catalogue import Videos
from upnext.world.config import DAY_US, HOUR_US
from upnext.world.draws import Floats, Stream, extend, keys_at, uniform
from upnext.world.geography import ENGLISH, MINORS, TOPICS, Space
from upnext.world.population import Viewers, vectors_at

Bools = NDArray[np.bool_]

CLICK_BASE, CLICK_TASTE, CLICK_QUALITY, CLICK_LENGTH = -1.9, 3.2, 0.75, -0.30
FOREIGN, FOREIGN_ENGLISH = -1.4, -0.6
TREND_DAYS = 4.0
REPEATED_TOPIC, REPEATED_CREATOR, WATCHED_BEFORE = -0.10, -0.35, -2.5
MOST_TOPIC_REPEATS, MOST_CREATOR_REPEATS = 8, 4
EYE_DECAY = np.array([0.10, 0.06, 0.18, 0.10])
"""By device: a slot at position p is looked at with probability 1 / (1 + decay * p)."""
DEVICE_CLICK = np.array([0.1, -0.1, -0.2, 0.0])

HOLD_S, HOLD_TASTE, HOLD_QUALITY, HOLD_POWER = 30.0, 1.5, 0.35, 1.1
CONCENTRATION = 3.0
REWATCH, REWATCH_MEAN = 0.02, 1.5
LOWEST_MEAN, HIGHEST_MEAN = 0.03, 0.95

LIKE = (-5.4, 1.8, 1.8)
SHARE = (-7.2, 1.8, 2.0)
NOT_INTERESTED = (-5.6, -1.6, 1.5)
STAY_BASE, STAY_PLEASED, STAY_ANNOYED = -0.1, 0.6, -1.5
LONGEST_SESSION_US = 90 * 60 * 1_000_000
GLANCE_US, CLICK_US = 1_500_000, 600_000


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass(frozen=True)
class Audience:
    """Viewers at the moment they open or turn to a page.

    rows, at_us: int64[B]. vector: float32[B, 16], their taste then. language, device: int8[B]. minor: bool[B].
    patience: float64[B].
    """

    rows: NDArray[np.int64]
    at_us: NDArray[np.int64]
    vector: NDArray[np.float32]
    language: NDArray[np.int8]
    device: NDArray[np.int8]
    minor: Bools
    patience: Floats


def gather(
    space: Space, viewers: Viewers, at_us: NDArray[np.int64], device: NDArray[np.int8] | None = None
) -> Audience:
    """Viewers as an audience at a time, on their usual device unless told otherwise."""
    return Audience(
        rows=viewers.rows,
        at_us=at_us,
        vector=vectors_at(space, viewers, at_us),
        language=viewers.language,
        device=viewers.device if device is None else device,
        minor=viewers.age == MINORS,
        patience=viewers.patience,
    )


@dataclass(frozen=True)
class SessionState:
    """What a session remembers. :func:`respond` takes one and returns the next; none is ever changed.

    session: uint64[B], its key. page: int64[B], pages seen. started_us: int64[B].
    topics: int16[B, 24], slots of each topic shown so far. creators: int32[B, *], creators shown so far, and
    watched: int32[B, *], rows of videos watched, newest last, -1 where none.
    """

    session: NDArray[np.uint64]
    page: NDArray[np.int64]
    started_us: NDArray[np.int64]
    topics: NDArray[np.int16]
    creators: NDArray[np.int32]
    watched: NDArray[np.int32]

    @classmethod
    def open(
        cls,
        seed: int,
        rows: NDArray[np.int64],
        at_us: NDArray[np.int64],
        before: "SessionState | None" = None,
    ) -> "SessionState":
        """New sessions; ``before`` are the same viewers' last ones, of which they remember what they watched."""
        n = len(rows)
        return cls(
            session=keys_at(seed, Stream.SESSION, rows, at_us),
            page=np.zeros(n, dtype=np.int64),
            started_us=at_us,
            topics=np.zeros((n, len(TOPICS)), dtype=np.int16),
            creators=np.full((n, 0), -1, dtype=np.int32),
            watched=np.full((n, 0), -1, dtype=np.int32) if before is None else before.watched,
        )

    def take(self, which: NDArray[np.int64] | Bools) -> "SessionState":
        """The sessions that an index or a mask selects."""
        return SessionState(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of each slot: float64[B, K] each.

    affinity: cosine-like taste match. looked: probability of a look. click: of a click. fraction: mean watch
    fraction after a click. watch_ms: mean milliseconds watched, clicks and all.
    """

    affinity: Floats
    looked: Floats
    click: Floats
    fraction: Floats
    watch_ms: Floats


@dataclass(frozen=True)
class Outcome:
    """What came of each slot: [B, K] each, and of each page: [B].

    clicked, liked, shared, not_interested: bool. fraction: float64, above one when watched again.
    watch_ms: int64, 0 without a click. seen_us: int64, when the slot came into view.
    stays: bool[B], whether the viewer turns to another page. left_us: int64[B], when done with this one.
    """

    shown: Bools
    clicked: Bools
    liked: Bools
    shared: Bools
    not_interested: Bools
    fraction: Floats
    watch_ms: NDArray[np.int64]
    seen_us: NDArray[np.int64]
    stays: Bools
    left_us: NDArray[np.int64]


def _earlier(codes: NDArray[np.int32] | NDArray[np.int8], shown: Bools) -> NDArray[np.int64]:
    """How many earlier shown slots of the page have a slot's code: int64[B, K]."""
    before = np.tri(codes.shape[1], k=-1, dtype=np.bool_)
    same = codes[:, :, None] == codes[:, None, :]
    repeats: NDArray[np.int64] = (same & before & shown[:, None, :]).sum(axis=2)
    return repeats


def fatigue(videos: Videos, slates: NDArray[np.int32], state: SessionState) -> Floats:
    """Log-odds that repetition costs each slot: topic and creator in this session, video ever watched."""
    shown = slates >= 0
    topic, creator = videos.topic[slates], videos.creator[slates]
    topics = _earlier(topic, shown) + np.take_along_axis(state.topics, topic.astype(np.int64), axis=1)
    creators = _earlier(creator, shown) + (creator[:, :, None] == state.creators[:, None, :]).sum(axis=2)
    again = (slates[:, :, None] == state.watched[:, None, :]).any(axis=2) | (_earlier(slates, shown) > 0)
    cost: Floats = (
        REPEATED_TOPIC * np.minimum(topics, MOST_TOPIC_REPEATS)
        + REPEATED_CREATOR * np.minimum(creators, MOST_CREATOR_REPEATS)
        + WATCHED_BEFORE * again
    )
    return cost


def language_cost(viewer: NDArray[np.int8], video: NDArray[np.int8]) -> Floats:
    """Log-odds that a foreign language costs; English costs less."""
    return np.where(viewer == video, 0.0, np.where(video == ENGLISH, FOREIGN_ENGLISH, FOREIGN))


def foresee(
    audience: Audience, videos: Videos, slates: NDArray[np.int32], state: SessionState | None
) -> Outlook:
    """Expectations of slates [B, K] at positions 0 to K; without a state each slot counts by itself, on top."""
    k = slates.shape[1]
    affinity = np.einsum("bd,bkd->bk", audience.vector, videos.vector[slates]).astype(np.float64)
    if state is None:
        tired, looked = np.zeros(slates.shape), np.ones(slates.shape)
    else:
        tired = fatigue(videos, slates, state)
        looked = 1.0 / (1.0 + EYE_DECAY[audience.device][:, None] * np.arange(k))
    return _weigh(audience, videos, slates, affinity, tired, looked)


def appeal(audience: Audience, videos: Videos) -> Floats:
    """Mean milliseconds that each viewer would watch each of these videos, shown alone on top: float64[B, n]."""
    slates = np.broadcast_to(
        np.arange(len(videos.rows), dtype=np.int32), (len(audience.rows), len(videos.rows))
    )
    affinity = (audience.vector @ videos.vector.T).astype(np.float64)
    nothing = np.zeros((1, 1))
    return _weigh(audience, videos, slates, affinity, nothing, nothing + 1.0).watch_ms


def _weigh(
    audience: Audience,
    videos: Videos,
    slates: NDArray[np.int32],
    affinity: Floats,
    tired: Floats,
    looked: Floats,
) -> Outlook:
    quality = videos.quality[slates].astype(np.float64)
    seconds = videos.duration_s[slates].astype(np.float64)
    language = language_cost(audience.language[:, None], videos.language[slates])
    age_days = (audience.at_us[:, None] - videos.uploaded_us[slates]) / DAY_US
    click = sigmoid(
        CLICK_BASE
        + CLICK_TASTE * affinity
        + CLICK_QUALITY * quality
        + CLICK_LENGTH * np.log(seconds / 60.0)
        + videos.trend[slates] * np.exp(-np.maximum(age_days, 0.0) / TREND_DAYS)
        + language
        + tired
        + DEVICE_CLICK[audience.device][:, None]
    )
    hold = HOLD_TASTE * affinity + HOLD_QUALITY * quality + 0.5 * language + 0.3 * tired
    fraction = np.clip(sigmoid(HOLD_POWER * (np.log(HOLD_S / seconds) + hold)), LOWEST_MEAN, HIGHEST_MEAN)
    present = (slates >= 0) & ~(audience.minor[:, None] & videos.restricted[slates])
    clicked = np.where(present, looked * click, 0.0)
    mean = (1.0 - REWATCH) * fraction + REWATCH * REWATCH_MEAN
    return Outlook(affinity, looked, clicked, fraction, 1000.0 * clicked * mean * seconds)


def respond(
    seed: int,
    audience: Audience,
    videos: Videos,
    slates: NDArray[np.int32],
    state: SessionState,
) -> tuple[Outcome, SessionState]:
    """What each viewer does with a page of slots int32[B, K], and the session's memory after it."""
    outlook = foresee(audience, videos, slates, state)
    shown = slates >= 0
    keys = keys_at(
        seed, Stream.RESPONSE, audience.rows[:, None], slates, (audience.at_us // HOUR_US)[:, None]
    )
    clicked = uniform(keys, 0) < outlook.click
    once = beta_quantile(outlook.fraction, uniform(keys, 1), CONCENTRATION)
    luck = uniform(keys, 2)
    fraction = np.where(clicked, np.where(luck < REWATCH, 1.0 + luck / REWATCH, once), 0.0)
    watch_ms = np.round(1000.0 * fraction * videos.duration_s[slates]).astype(np.int64)
    enjoyed = np.minimum(fraction, 1.0)
    liked = clicked & (uniform(keys, 3) < _odds(LIKE, outlook.affinity, enjoyed))
    shared = clicked & (uniform(keys, 4) < _odds(SHARE, outlook.affinity, enjoyed))
    let_down = (clicked & (fraction < 0.15)).astype(np.float64)
    annoyed = shown & ~liked & ~shared
    annoyed &= uniform(keys, 5) < outlook.looked * _odds(NOT_INTERESTED, outlook.affinity, let_down)

    pauses = GLANCE_US * (0.5 + uniform(keys, 6)) + np.where(clicked, CLICK_US, 0)
    ends = audience.at_us[:, None] + np.cumsum(pauses.astype(np.int64) + 1000 * watch_ms, axis=1)
    seen_us = np.concatenate([audience.at_us[:, None], ends[:, :-1]], axis=1)
    left_us = ends[:, -1] + 2_000_000
    willing = sigmoid(
        STAY_BASE
        + audience.patience
        + STAY_PLEASED * enjoyed.sum(axis=1)
        + STAY_ANNOYED * annoyed.sum(axis=1)
    )
    stays = uniform(extend(state.session, state.page), 0) < willing
    stays &= left_us - state.started_us < LONGEST_SESSION_US
    outcome = Outcome(shown, clicked, liked, shared, annoyed, fraction, watch_ms, seen_us, stays, left_us)
    return outcome, _remember(state, videos, slates, clicked)


def _odds(weights: tuple[float, float, float], affinity: Floats, what: Floats) -> Floats:
    base, taste, slope = weights
    return sigmoid(base + taste * affinity + slope * what)


def _remember(state: SessionState, videos: Videos, slates: NDArray[np.int32], clicked: Bools) -> SessionState:
    shown = slates >= 0
    topics = state.topics.copy()
    sessions = np.broadcast_to(np.arange(len(slates))[:, None], slates.shape)
    np.add.at(topics, (sessions[shown], videos.topic[slates][shown]), 1)
    creators = np.where(shown, videos.creator[slates], np.int32(-1))
    watched = np.where(clicked, slates, np.int32(-1))
    return SessionState(
        session=state.session,
        page=state.page + 1,
        started_us=state.started_us,
        topics=topics,
        creators=np.concatenate([state.creators, creators], axis=1),
        watched=np.concatenate([state.watched, watched], axis=1),
    )
