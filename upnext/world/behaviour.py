"""What viewers do with a page: click, watch, like, share, turn away, stay or leave.

Outcomes are drawn by (viewer, video, hour), never by policy: whoever shows a viewer the same video in the
same hour meets the same luck, so that two policies can be compared pair by pair.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.world.beta import beta_quantile
from upnext.world.catalogue import Videos
from upnext.world.config import HOUR_US
from upnext.world.draws import Floats, Stream, extend, keys_at, uniform
from upnext.world.expectation import REWATCH, Audience, foresee, sigmoid
from upnext.world.state import Bools, SessionState

CONCENTRATION = 3.0
LIKE = (-5.4, 1.8, 1.8)
SHARE = (-7.2, 1.8, 2.0)
NOT_INTERESTED = (-5.6, -1.6, 1.5)
STAY_BASE, STAY_PLEASED, STAY_ANNOYED = -0.1, 0.6, -1.5
LONGEST_SESSION_US = 90 * 60 * 1_000_000
GLANCE_US, CLICK_US = 1_500_000, 600_000


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
    return outcome, state.after(videos, slates, clicked)


def _odds(weights: tuple[float, float, float], affinity: Floats, what: Floats) -> Floats:
    base, taste, slope = weights
    return sigmoid(base + taste * affinity + slope * what)
