"""The world itself: what a platform would bring, and how its viewers answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upnext.world.behaviour import Outcome, respond
from upnext.world.catalogue import Videos, draw_catalogue, draw_videos, videos_by
from upnext.world.columns import id_rows, knows_ids
from upnext.world.config import START_US, WorldConfig, to_us
from upnext.world.draws import Floats
from upnext.world.expectation import Audience, appeal, foresee, gather
from upnext.world.geography import Space, make_space
from upnext.world.log import in_time_order, rows_of, to_table
from upnext.world.population import draw_viewers
from upnext.world.profiles import user_table, video_table
from upnext.world.sessions import log_rows
from upnext.world.state import SessionState
from upnext.world.thumbnails import draw_thumbnails
from upnext.world.visits import Visits, devices_used, draw_visits, members

Time = datetime | NDArray[np.int64]
"""A moment for all, or one for each in microseconds since 1970."""

TABLE_ROWS = 65_536
"""Rows of the tables that :meth:`World.videos` and :meth:`World.users` yield."""


@dataclass(frozen=True)
class Answer:
    """What viewers did with a page: events (columns of EVENTS), the same as arrays, the state after it."""

    events: pa.Table
    outcome: Outcome
    state: SessionState


class World:
    """A pure function of its options: the same question always has the same answer, in any order.

    What takes memory is the catalogue's numbers, about 110 bytes a video, drawn when first needed.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config

    @cached_property
    def space(self) -> Space:
        return make_space(self.config.seed)

    @cached_property
    def catalogue(self) -> Videos:
        """Every video uploaded before the world's last day ends; its index is its row."""
        return draw_catalogue(self.config, self.space, self.video_count)

    @property
    def video_count(self) -> int:
        return videos_by(self.config, self.config.end_us)

    @property
    def user_count(self) -> int:
        return members(self.config, self.config.end_us)

    def videos(self) -> Iterator[pa.Table]:
        """The catalogue in the columns of VIDEOS, in order of upload."""
        for first in range(0, self.video_count, TABLE_ROWS):
            rows = np.arange(first, min(first + TABLE_ROWS, self.video_count))
            yield video_table(self.config, draw_videos(self.config, self.space, rows))

    def users(self) -> Iterator[pa.Table]:
        """The viewers in the columns of USERS, in the order they joined."""
        for first in range(0, self.user_count, TABLE_ROWS):
            rows = np.arange(first, min(first + TABLE_ROWS, self.user_count))
            yield user_table(self.config, draw_viewers(self.config, self.space, rows))

    def events(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[pa.Table]:
        """The log with since <= timestamp < until in the columns of EVENTS, in time order across tables.

        It is what came of the logging policy's slates; see :mod:`upnext.world.logging_policy`.
        """
        since_us = START_US if since is None else max(START_US, to_us(since))
        until_us = self.config.end_us if until is None else min(self.config.end_us, to_us(until))
        if since_us < until_us:
            for rows in log_rows(self.config, self.space, self.catalogue, since_us, until_us):
                yield to_table(rows)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures of videos by row, RGB: uint8[n, 64, 64, 3]."""
        return draw_thumbnails(self.config, draw_videos(self.config, self.space, rows))

    def visits(self, day: int) -> Visits:
        """Who comes when on a day (0: the first), in time order; any day, also after the log's last."""
        return draw_visits(self.config, day)

    def live_videos(self, at: datetime) -> int:
        """How many videos, from row 0 on, are up at a time within the world's days."""
        return min(videos_by(self.config, to_us(at)), self.video_count)

    def viewer_rows(self, user_ids: Sequence[str] | pa.Array) -> NDArray[np.int64]:
        """Rows of viewers by id: int64[n]; NotFound for a stranger."""
        return id_rows("u", user_ids, self.user_count)

    def video_rows(self, video_ids: Sequence[str] | pa.Array) -> NDArray[np.int32]:
        """Rows of videos by id: int32[n]; NotFound for an unknown one."""
        return id_rows("v", video_ids, self.video_count).astype(np.int32)

    def has_video(self, video_ids: pa.Array) -> NDArray[np.bool_]:
        """Which ids are of videos of this world: bool[n]."""
        return knows_ids("v", video_ids, self.video_count)

    def open(
        self, viewers: NDArray[np.int64], at: Time, watched: NDArray[np.int32] | None = None
    ) -> SessionState:
        """New sessions of viewers by row; ``watched`` is the ``memory()`` of their last sessions' states."""
        return SessionState.open(self.config.seed, viewers, _times(at, len(viewers)), watched)

    def answer(
        self,
        viewers: NDArray[np.int64],
        slates: NDArray[np.int32],
        at: Time,
        state: SessionState | None = None,
        surface: str = "home",
        propensity: Floats | None = None,
        request_ids: Sequence[str] | None = None,
    ) -> Answer:
        """What viewers int64[B] do with a page of video rows int32[B, K] (-1: empty) at a time.

        Pass the state of an answer to the next one of the same session, at ``outcome.left_us`` of those who
        stay (``state.take(outcome.stays)``); without a state it is a new session. propensity: float64[B, K],
        for the impressions. request_ids: one for each viewer, where a recommender gave them.
        """
        state = self.open(viewers, at) if state is None else state
        audience, region = self._audience(viewers, at, state)
        outcome, after = respond(self.config.seed, audience, self.catalogue, slates, state)
        home = np.zeros(len(viewers), dtype=np.int8)
        rows = in_time_order(rows_of(audience, region, state, slates, outcome, home, propensity))
        events = _with_text(to_table(rows), "surface", pa.array([surface] * len(rows), pa.string()))
        if request_ids is not None:
            order = np.argsort(state.session)
            which = order[np.searchsorted(state.session, rows["session"], sorter=order)]
            events = _with_text(events, "request_id", pa.array(request_ids, pa.string()).take(which))
        return Answer(events, outcome, after)

    def judge(
        self,
        user_ids: Sequence[str] | pa.Array,
        slates: Sequence[Sequence[str]],
        at: Time,
        expected: bool = False,
    ) -> Floats:
        """Milliseconds watched of each slot of slates of video ids [B][K] ("" for none): float64[B, K].

        Each slate opens a session. The luck of a viewer with a video in an hour is the same whatever else is
        shown, so two policies are compared pair by pair; ``expected`` gives the means, without any luck.
        """
        flat = pa.array([video for slate in slates for video in slate], pa.string())
        empty = pc.equal(flat, "").to_numpy(zero_copy_only=False)
        rows = np.full(len(flat), -1, dtype=np.int32)
        rows[~empty] = self.video_rows(flat.filter(pa.array(~empty)))
        viewers = self.viewer_rows(user_ids)
        return self.watch_ms(viewers, rows.reshape(len(viewers), -1), at, expected)

    def watch_ms(
        self, viewers: NDArray[np.int64], slates: NDArray[np.int32], at: Time, expected: bool = False
    ) -> Floats:
        """:meth:`judge` by rows: viewers int64[B], slates int32[B, K] with -1 for none."""
        state = self.open(viewers, at)
        audience, _ = self._audience(viewers, at, state)
        if expected:
            return foresee(audience, self.catalogue, slates, state).watch_ms
        outcome, _ = respond(self.config.seed, audience, self.catalogue, slates, state)
        return outcome.watch_ms.astype(np.float64)

    def appeal(self, viewers: NDArray[np.int64], at: datetime) -> Floats:
        """Mean milliseconds that each viewer watches of each live video, first in a slate: float64[B, n].

        The truth that a recommender has to guess; the best slate sorts by it.
        """
        audience, _ = self._audience(viewers, at, self.open(viewers, at))
        return appeal(audience, self.catalogue, self.live_videos(at))

    def _audience(
        self, rows: NDArray[np.int64], at: Time, state: SessionState
    ) -> tuple[Audience, NDArray[np.int8]]:
        viewers = draw_viewers(self.config, self.space, rows)
        device = devices_used(state.session, viewers.device)
        return gather(self.space, viewers, _times(at, len(rows)), device), viewers.region


def _with_text(events: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return events.set_column(events.schema.get_field_index(column), events.schema.field(column), values)


def _times(at: Time, count: int) -> NDArray[np.int64]:
    return np.full(count, to_us(at)) if isinstance(at, datetime) else at
