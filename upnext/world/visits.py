"""When viewers come: sessions of one day, in time order, without the days before."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.world.arrivals import arrived
from upnext.world.config import DAY_US, START_US, WorldConfig
from upnext.world.draws import Floats, Keys, Stream, extend, keys_at, uniform, uniforms
from upnext.world.geography import DEVICES, UTC_OFFSET_H
from upnext.world.population import activity_of, regions_of, viewer_keys

MOST_SESSIONS = 8
"""Sessions of one viewer on one day."""
WEEKDAY = np.array([0.95, 0.93, 0.95, 0.97, 1.05, 1.15, 1.1])
HOUR_SHARES = np.array(
    [2, 1, 1, 1, 1, 2, 3, 5, 5, 4, 4, 4, 6, 5, 4, 4, 5, 6, 7, 9, 10, 10, 8, 5], dtype=np.float64
)
"""Sessions by hour of the viewer's own day."""
SEARCHES = 0.10
OTHER_DEVICE = 0.2
_CHUNK = 65_536


@dataclass(frozen=True)
class Visits:
    """Sessions in order of their start. viewer, start_us: int64[S]."""

    viewer: NDArray[np.int64]
    start_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.viewer)

    def take(self, which: slice) -> "Visits":
        return Visits(self.viewer[which], self.start_us[which])


def members(config: WorldConfig, at_us: int) -> int:
    """How many viewers had joined before a time."""
    return arrived(config.seed, Stream.VIEWER_ARRIVAL, at_us, config.users)


def draw_visits(config: WorldConfig, day: int) -> Visits:
    """Every session that starts on day ``day`` (0: the first), of viewers who had joined by then."""
    day_us = START_US + day * DAY_US
    count = members(config, day_us)
    parts = [
        _of_viewers(config.seed, day, np.arange(first, min(first + _CHUNK, count)))
        for first in range(0, count, _CHUNK)
    ]
    viewer, start_us = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((viewer, start_us))
    return Visits(viewer[order], start_us[order])


def _of_viewers(seed: int, day: int, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    who = viewer_keys(seed, rows)
    keys = keys_at(seed, Stream.VISITS, rows, day)
    count = _poisson(uniform(keys, 0), activity_of(who) * WEEKDAY[day % 7])
    index = np.repeat(np.arange(len(rows)), count)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
    luck = uniform(extend(keys[index], nth), 0)
    # The nth of m sessions falls into the nth part of the day, so that a viewer's sessions rarely overlap.
    local = _hour((nth + 0.1 + 0.8 * luck) / count[index])
    hour = (local - UTC_OFFSET_H[regions_of(who)][index]) % 24.0
    return rows[index], START_US + day * DAY_US + (hour * (DAY_US / 24.0)).astype(np.int64)


def _poisson(draw: Floats, mean: Floats) -> NDArray[np.int64]:
    """Poisson counts up to MOST_SESSIONS by inversion: int64[n]."""
    count = np.zeros(len(draw), dtype=np.int64)
    term = np.exp(-mean)
    below = term.copy()
    for k in range(1, MOST_SESSIONS + 1):
        count += draw > below
        term = term * mean / k
        below += term
    return count


def _hour(share: Floats) -> Floats:
    """Hour of the day before which a share of its sessions start: float64 in [0, 24)."""
    below = np.concatenate([[0.0], np.cumsum(HOUR_SHARES)]) / HOUR_SHARES.sum()
    hours: Floats = np.minimum(np.interp(share, below, np.arange(25.0)), np.nextafter(24.0, 0.0))
    return hours


def devices_used(session: Keys, usual: NDArray[np.int8]) -> NDArray[np.int8]:
    """Device of each session, mostly the viewer's usual one: int8[B]."""
    draws = uniforms(session, 100, 2)
    other = (draws[:, 1] * len(DEVICES)).astype(np.int8)
    return np.where(draws[:, 0] < OTHER_DEVICE, other, usual)


def searches(session: Keys, tastes: Floats) -> NDArray[np.int8]:
    """Topic that each session opens with a search for, by the taste of the moment; -1 for none: int8[B]."""
    draws = uniforms(session, 110, 2)
    below = np.cumsum(tastes, axis=1)
    topic = (draws[:, 1:] * below[:, -1:] >= below).sum(axis=1)
    return np.where(draws[:, 0] < SEARCHES, topic, -1).astype(np.int8)
