"""The simulated platform as a source: ``world:users=3000,videos=4000,days=21,seed=7``, each part optional."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from upnext.contracts import QUARANTINE
from upnext.sources.base import Thumbnails
from upnext.world.config import parse_options
from upnext.world.thumbnails import SIDE
from upnext.world.world import World


class WorldSource:
    """A world's catalogue, viewers and log. More days of the same world only add events."""

    timed = True
    simulated = True

    def __init__(self, options: str) -> None:
        self.world = World(parse_options(options))
        self.dataset = self.world.config.dataset

    def videos(self) -> Iterator[pa.Table]:
        return self.world.videos()

    def users(self) -> Iterator[pa.Table]:
        return self.world.users()

    def events(self, since: datetime | None = None) -> Iterator[pa.Table]:
        return self.world.events(since)

    def thumbnails(self, video_ids: Sequence[str]) -> Thumbnails:
        """As :meth:`upnext.sources.base.Pictured.thumbnails`: every video of this world has one."""
        ids = pa.array(video_ids, pa.string())
        there = self.world.has_video(ids)
        pixels = np.zeros((len(ids), SIDE, SIDE, 3), np.uint8)
        rows = self.world.video_rows(ids.filter(pa.array(there)))
        pixels[there] = self.world.thumbnails(rows.astype(np.int64))
        return Thumbnails(pixels, there, QUARANTINE.empty_table())

    def judge(
        self, user_ids: Sequence[str], slates: Sequence[Sequence[str]], at: datetime
    ) -> NDArray[np.float64]:
        """How long viewers would watch what they are shown: :meth:`upnext.world.world.World.judge`."""
        return self.world.judge(user_ids, slates, at)
