"""What is to be expected of a slot: how likely a click is, and how much of the video is watched.

Formulas are in docs/world.md. B viewers are judged at once, K slots each; a slot of -1 is empty.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.world.catalogue import Videos
from upnext.world.config import DAY_US
from upnext.world.draws import Floats
from upnext.world.geography import ENGLISH, MINORS, Space
from upnext.world.population import Viewers, vectors_at
from upnext.world.state import Bools, SessionState

CLICK_BASE, CLICK_TASTE, CLICK_QUALITY, CLICK_LENGTH = -1.85, 3.4, 0.65, -0.12
FOREIGN, FOREIGN_ENGLISH = -1.4, -0.6
TREND_DAYS = 4.0
REPEATED_TOPIC, REPEATED_CREATOR, WATCHED_BEFORE = -0.10, -0.35, -2.5
MOST_TOPIC_REPEATS, MOST_CREATOR_REPEATS = 8, 4
EYE_DECAY = np.array([0.10, 0.06, 0.18, 0.10])
"""By device: a slot at position p is looked at with probability 1 / (1 + decay * p)."""
DEVICE_CLICK = np.array([0.1, -0.1, -0.2, 0.0])

HOLD_S, HOLD_TASTE, HOLD_QUALITY, HOLD_POWER = 32.0, 1.2, 0.25, 1.4
REWATCH, REWATCH_MEAN = 0.02, 1.5
LOWEST_MEAN, HIGHEST_MEAN = 0.03, 0.95


def sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass(frozen=True)
class Audience:
    """Viewers at the moment they open or turn to a page.

    rows, at_us: int64[B]. vector: float32[B, 16], their taste then. language, device: int8[B].
    minor: bool[B]. patience: float64[B].
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


def foresee(audience: Audience, videos: Videos, slates: NDArray[np.int32], state: SessionState) -> Outlook:
    """Expectations of a page of slots int32[B, K], the first on top."""
    affinity = np.einsum("bd,bkd->bk", audience.vector, videos.vector[slates]).astype(np.float64)
    tired = fatigue(videos, slates, state)
    decay = EYE_DECAY[audience.device][:, None]
    looked: Floats = np.reciprocal(1.0 + decay * np.arange(slates.shape[1], dtype=np.float64))
    return _weigh(audience, videos, slates, affinity, tired, looked)


def appeal(audience: Audience, videos: Videos, count: int) -> Floats:
    """Mean milliseconds watched of each of the first ``count`` videos, atop a slate: float64[B, count]."""
    slates = np.broadcast_to(np.arange(count, dtype=np.int32), (len(audience.rows), count))
    affinity = (audience.vector @ videos.vector[:count].T).astype(np.float64)
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
