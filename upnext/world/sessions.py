"""The log: sessions under the logging policy, merged into one stream in time order."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from upnext.world.behaviour import respond
from upnext.world.catalogue import Videos, videos_by
from upnext.world.config import DAY_US, START_US, WorldConfig
from upnext.world.draws import Keys, extend, uniform, uniforms
from upnext.world.expectation import gather
from upnext.world.geography import LANGUAGES, TOPICS, Space
from upnext.world.log import ROW, SURFACES, Rows, in_time_order, rows_of, search_rows
from upnext.world.logging_policy import LoggingPolicy, propensities, without_repeats
from upnext.world.population import believed_tastes, draw_viewers, tastes_at
from upnext.world.state import SessionState
from upnext.world.visits import Visits, devices_used, draw_visits, searches
from upnext.world.words import WORDS_PER_TOPIC

SLOTS = 10
"""Slots of a page of the log."""
MOST_PAGES = 6
SESSIONS_AT_ONCE = 4096
"""Sessions simulated together: bounds the memory, and changes nothing else."""
SEARCH_US = 1_000_000
"""From a search to the page that answers it."""


def run_sessions(
    config: WorldConfig, space: Space, videos: Videos, policy: LoggingPolicy, visits: Visits
) -> Rows:
    """Every event of these sessions, unsorted. All of them start on the policy's day."""
    viewers = draw_viewers(config, space, visits.viewer)
    state = SessionState.open(config.seed, visits.viewer, visits.start_us)
    device = devices_used(state.session, viewers.device)
    tastes = tastes_at(viewers, visits.start_us)
    sought = searches(state.session, tastes)
    belief = policy.beliefs(believed_tastes(config.seed, viewers, visits.start_us))
    sought_only = policy.beliefs(np.eye(len(TOPICS))[sought])
    searchers = np.nonzero(sought >= 0)[0]
    words = searched_words(state.session, sought, viewers.language)
    audience = gather(space, viewers, visits.start_us, device)
    parts = [search_rows(audience, viewers.region, state, words, searchers)]

    which = np.arange(len(visits))
    at_us = visits.start_us + np.where(sought >= 0, SEARCH_US, 0)
    for page in range(MOST_PAGES):
        if not len(which):
            break
        here = viewers.take(which)
        audience = gather(space, here, at_us, device[which])
        searched = (sought[which] >= 0) & (page == 0)
        wanted = np.where(searched[:, None], sought_only[which], belief[which])
        luck = uniforms(extend(extend(state.session, state.page), 1), 0, 3 * SLOTS)
        drawn = policy.draw(wanted, luck.reshape(-1, SLOTS, 3))
        slates = without_repeats(drawn, audience.minor[:, None] & videos.restricted[drawn])
        outcome, after = respond(config.seed, audience, videos, slates, state)
        surface = np.where(searched, SURFACES.index("search"), SURFACES.index("home")).astype(np.int8)
        chance = propensities(policy.probability(wanted, drawn))
        parts.append(rows_of(audience, here.region, state, slates, outcome, surface, chance))
        stays = outcome.stays
        which, at_us, state = which[stays], outcome.left_us[stays], after.take(stays)
    return np.concatenate(parts)


def searched_words(session: Keys, topic: NDArray[np.int8], language: NDArray[np.int8]) -> NDArray[np.int32]:
    """Code of a word of each session's searched topic in the viewer's language: int32[B]."""
    pick = (uniform(session, 120) * WORDS_PER_TOPIC).astype(np.int32)
    return (topic.astype(np.int32) * len(LANGUAGES) + language) * WORDS_PER_TOPIC + pick


def log_rows(
    config: WorldConfig, space: Space, videos: Videos, since_us: int, until_us: int
) -> Iterator[Rows]:
    """Rows with since <= time < until, in time order within and across batches.

    Sessions run over midnight, so it begins a day early. Events of a batch of sessions that fall after the
    start of the next batch wait for it: they belong to sessions under way, and are all that is ever held.
    """
    waiting = np.empty(0, dtype=ROW)
    first = max(0, (since_us - START_US) // DAY_US - 1)
    last = -(-(until_us - START_US) // DAY_US)
    for day in range(first, last):
        day_us = START_US + day * DAY_US
        policy = LoggingPolicy.of_day(videos, videos_by(config, day_us), day_us)
        visits = draw_visits(config, day)
        for at in range(0, len(visits), SESSIONS_AT_ONCE):
            batch = visits.take(slice(at, at + SESSIONS_AT_ONCE))
            if batch.start_us[0] >= until_us:
                break
            ready, waiting = _cut(waiting, int(batch.start_us[0]))
            yield from _within(ready, since_us, until_us)
            waiting = np.concatenate([waiting, run_sessions(config, space, videos, policy, batch)])
    yield from _within(waiting, since_us, until_us)


def _cut(rows: Rows, at_us: int) -> tuple[Rows, Rows]:
    early = rows["time_us"] < at_us
    return rows[early], rows[~early]


def _within(rows: Rows, since_us: int, until_us: int) -> Iterator[Rows]:
    kept = rows[(rows["time_us"] >= since_us) & (rows["time_us"] < until_us)]
    if len(kept):
        yield in_time_order(kept)
