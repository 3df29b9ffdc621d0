"""The world itself: what a platform would bring, and how its viewers answer."""

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property

import numpy as np
import pyarrow as pa

from upnext.world.catalogue import Videos, draw_catalogue, draw_videos, videos_by
from upnext.world.config import START_US, WorldConfig, to_us
from upnext.world.geography import Space, make_space
from upnext.world.log import to_table
from upnext.world.population import draw_viewers
from upnext.world.profiles import user_table, video_table
from upnext.world.sessions import log_rows
from upnext.world.visits import members

TABLE_ROWS = 65_536
"""Rows of the tables that :meth:`World.videos` and :meth:`World.users` yield."""


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
