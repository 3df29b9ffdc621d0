"""Viewers: who they are, what they like, and how that drifts."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from upnext.world.arrivals import arrival_us
from upnext.world.config import DAY_US, START_US, WorldConfig
from upnext.world.draws import Floats, Keys, Stream, choose, extend, keys_at, normals, uniform, uniforms
from upnext.world.geography import (
    AGE_SHARES,
    DEVICE_SHARES,
    DIMENSIONS,
    ENGLISH,
    HOME_LANGUAGE,
    REGION_SHARES,
    TOPICS,
    Space,
)

INTERESTS = 5
"""Topics that a viewer ever cares for; two to four of them are strong at a time."""
DRIFT = 1.2
"""Amplitude of an interest's slow swing, in log-weight."""
PERIOD_DAYS = (35.0, 90.0)
SHARPNESS = 1.3
PERSONAL = 0.45
"""Length of a viewer's own leaning (styles within topics) beside the unit length of the topics."""
MEMBER_DAYS = 730
"""Age of the oldest account at the start."""


@dataclass(frozen=True)
class Viewers:
    """Viewers in the order of ``rows``.

    rows: int64[n]. region, language, age, device: int8[n], codes into the tables of geography.
    activity: float64[n], sessions per day. patience: float64[n], log-odds of turning to the next page.
    interests: int8[n, 5], topics. strength, phase: float64[n, 5]; period_days: float64[n]: how they swing.
    leaning: float32[n, 16]. joined_us: int64[n].
    """

    rows: NDArray[np.int64]
    region: NDArray[np.int8]
    language: NDArray[np.int8]
    age: NDArray[np.int8]
    device: NDArray[np.int8]
    activity: Floats
    patience: Floats
    interests: NDArray[np.int8]
    strength: Floats
    phase: Floats
    period_days: Floats
    leaning: NDArray[np.float32]
    joined_us: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "Viewers":
        """The viewers that an index or a mask selects."""
        return Viewers(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def viewer_keys(seed: int, rows: NDArray[np.int64]) -> Keys:
    return keys_at(seed, Stream.VIEWER, rows)


def regions_of(keys: Keys) -> NDArray[np.int8]:
    """Region code of each viewer: int8[n]."""
    return choose(uniform(keys, 0), REGION_SHARES)


def activity_of(keys: Keys) -> Floats:
    """Sessions per day, log-normal (median 0.3, mean 0.5) up to 5: float64[n]."""
    return np.minimum(0.3 * np.exp(normals(keys, 1, 1)[..., 0]), 5.0)


def draw_viewers(config: WorldConfig, space: Space, rows: NDArray[np.int64]) -> Viewers:
    """The viewers of these rows, whichever and in whatever order."""
    rows = np.asarray(rows, dtype=np.int64)
    keys = viewer_keys(config.seed, rows)
    region = regions_of(keys)
    speaks_english = uniform(keys, 4) < 0.08
    age = choose(uniform(keys, 5), AGE_SHARES)
    gumbel = -np.log(-np.log(uniforms(keys, 100, len(TOPICS))))
    ranked = np.argsort(-(space.leaning[region, age] + gumbel), axis=1, kind="stable")
    low, high = PERIOD_DAYS
    return Viewers(
        rows=rows,
        region=region,
        language=np.where(speaks_english, ENGLISH, HOME_LANGUAGE[region]).astype(np.int8),
        age=age,
        device=choose(uniform(keys, 6), DEVICE_SHARES),
        activity=activity_of(keys),
        patience=0.7 * normals(keys, 7, 1)[..., 0],
        interests=ranked[:, :INTERESTS].astype(np.int8),
        strength=normals(keys, 20, INTERESTS),
        phase=2.0 * np.pi * uniforms(keys, 40, INTERESTS),
        period_days=low + (high - low) * uniform(keys, 9),
        leaning=(PERSONAL / np.sqrt(DIMENSIONS) * normals(keys, 50, DIMENSIONS)).astype(np.float32),
        joined_us=arrival_us(config.seed, Stream.VIEWER_ARRIVAL, rows, config.users, MEMBER_DAYS),
    )


def weights_at(viewers: Viewers, at_us: NDArray[np.int64]) -> Floats:
    """Weights of each viewer's interests at a time, summing to one: float64[n, 5]."""
    turn = 2.0 * np.pi * (at_us - START_US) / DAY_US / viewers.period_days
    logits = SHARPNESS * (viewers.strength + DRIFT * np.sin(turn[:, None] + viewers.phase))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = weights / weights.sum(axis=1, keepdims=True)
    return shares


def tastes_at(viewers: Viewers, at_us: NDArray[np.int64]) -> Floats:
    """Weight of every topic for each viewer at a time, zero where none: float64[n, 24], rows sum to one."""
    tastes = np.zeros((len(viewers.rows), len(TOPICS)))
    np.put_along_axis(tastes, viewers.interests.astype(np.int64), weights_at(viewers, at_us), axis=1)
    return tastes


def vectors_at(space: Space, viewers: Viewers, at_us: NDArray[np.int64]) -> NDArray[np.float32]:
    """What each viewer likes at a time, as a unit vector: float32[n, 16].

    The square roots of the weights, so that a second interest counts for more than its mere share.
    """
    towards = np.sqrt(tastes_at(viewers, at_us)).astype(np.float32) @ space.centres + viewers.leaning
    unit: NDArray[np.float32] = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    return unit


def believed_tastes(seed: int, viewers: Viewers, at_us: NDArray[np.int64]) -> Floats:
    """What the logging platform takes for each viewer's taste: float64[n, 24], rows sum to one.

    Six parts the taste of a week ago, four parts a guess that never changes.
    """
    keys = extend(viewer_keys(seed, viewers.rows), int(Stream.SLATE))
    guess = np.exp(1.5 * normals(keys, 0, len(TOPICS)))
    guess /= guess.sum(axis=1, keepdims=True)
    belief: Floats = 0.6 * tastes_at(viewers, at_us - 7 * DAY_US) + 0.4 * guess
    return belief
