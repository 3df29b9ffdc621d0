"""What the ranker should have read: blocks of logged rows, computed anew from the lake for their moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.logged import unpacked
from components.moments import Moments
from feature_repo.context import CONTEXT_HISTORY, context_features
from feature_repo.layout import layouts
from feature_repo.offline import aligned, defaults
from feature_repo.request import CANDIDATE_NAMES, of_candidates, places
from feature_repo.specs import USER, VIDEO, ViewSpec
from models import viewer_inputs
from models.affinity import Affinities
from models.als import FOLDED
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.columns import codes, floats, micros
from models.crosses import LENGTH, VOTERS, Viewers
from models.dataset import Interactions
from models.history import watch_fraction
from models.layout import FeatureLayout
from upnext.ports import Lake
from upnext.times import moment

CLOCK = timedelta(minutes=1)
"""A release whose clock is further from the wall's replays an old log: its moments are not the lake's."""
Block = NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """One block of m rows, logged and recomputed: both float32[m, d], columns by ``names``."""

    block: str
    names: tuple[str, ...]
    rows: pa.Table
    """Columns of LOGGED_FEATURES, beside the values."""
    logged: Block
    recomputed: Block


@dataclass(frozen=True)
class LeftOut:
    """Rows of which a block cannot be computed anew."""

    reason: str
    rows: int


@dataclass(frozen=True)
class Recompute:
    """Computes the blocks of rows that one release logged, whose schema is that of its ranker."""

    lake: Lake
    bundle: Bundle
    rows: pa.Table
    history_days: int

    def blocks(self) -> Iterator[Compared | LeftOut]:
        """Each block, or why it is left out."""
        stored = {spec.name: self._stored(spec) for spec in (USER, VIDEO)}
        for block, spec in (("user", USER), ("video", VIDEO)):
            rows = stored[spec.name]
            if rows is None:
                yield LeftOut(f"layout of {spec.name} has changed", len(self.rows))
            else:
                read = places(spec.names, self.bundle.scorer.schema.block(block))
                yield self._compared(block, self.rows, rows[:, read])
        users, videos = (stored[spec.name] for spec in (USER, VIDEO))
        at = micros(self.rows["timestamp"])
        live = np.abs(micros(self.rows["computed_for"]) - at) <= CLOCK / timedelta(microseconds=1)
        if not live.all():
            yield LeftOut("moment of a replayed log", int((~live).sum()))
        if live.any() and users is not None and videos is not None:
            rows_now = self.rows.filter(pa.array(live))
            context, cross = self._moments(rows_now, users[live], videos[live])
            yield self._compared("context", rows_now, context)
            yield self._compared("cross", rows_now, cross)

    def _stored(self, spec: ViewSpec) -> Block | None:
        """All features of a view as of the snapshot that serving had; defaults where it had none.

        None where the release had them in another layout.
        """
        if self.bundle.manifest.layouts[spec.name].hash != layouts()[spec.name].hash:
            return None
        taken = micros(self.rows[f"{spec.entity}_snapshot"])
        out = np.tile(defaults(spec.name), (len(taken), 1))
        for at in np.unique(taken[taken > 0]):
            mine = np.flatnonzero(taken == at)
            ids = self.rows[spec.key].take(pa.array(mine)).to_pylist()
            out[mine] = aligned(self.lake, spec.name, moment(int(at)), ids)
        return out

    def _moments(self, rows: pa.Table, of_user: Block, of_video: Block) -> tuple[Block, Block]:
        """Context and what is told of candidates, with the history that the lake's events tell."""
        requests = rows["request_id"].combine_chunks().dictionary_encode()
        viewer = np.asarray(requests.indices)
        first = rows.take(pa.array(np.unique(viewer, return_index=True)[1]))
        at, users = micros(first["computed_for"]), pc.unique(rows["user_id"]).to_pylist()
        past = self._past(users, moment(int(at.min())), moment(int(at.max())))
        user = codes(first["user_id"], users)
        histories = past.histories(user, at, max(VOTERS, CONTEXT_HISTORY))
        surface, device, region, language = (
            first[name].to_pylist() for name in ("surface", "device", "region", "language")
        )
        moments = Moments.of(self.lake, self.catalogue, users, int(at.min()), int(at.max()) + 1)
        asked_s, query = moments.searches.latest(user, at)
        schema = self.bundle.scorer.schema
        layout = FeatureLayout.of(schema.context)
        context = context_features(layout, at, surface, device, histories, asked_s)
        recent = histories.newest(LENGTH)
        viewers = Viewers(
            histories=histories,
            als=self.bundle.als.fold_in(histories.newest(FOLDED)),
            tower=self.bundle.towers.encode(
                recent, viewer_inputs.context(at, viewer_inputs.places(device, region))
            ),
            now=at,
            region=self.bundle.crosses.region_codes(region),
            language=self.bundle.crosses.language_codes(language),
        )
        videos = self.catalogue.rows(rows["video_id"])
        candidates = of_candidates(
            self.bundle.crosses.pairs(viewers, viewer, videos),
            Affinities.of(USER.names, VIDEO.names).features(of_user, of_video, query[viewer]),
            moments.videos.features(videos, at[viewer]),
            moments.users.features(user[viewer], at[viewer]),
        )
        return context[viewer], candidates[:, places(CANDIDATE_NAMES, schema.cross)]

    def _past(self, users: list[str], first: datetime, last: datetime) -> Interactions:
        """What users did, event by event as the watch history has it, not folded into outcomes."""
        time, kind = ds.field("timestamp"), ds.field("event_type")
        wanted = ds.field("user_id").isin(users) & ~kind.isin(["impression", "search"])
        wanted &= (time >= first - timedelta(days=self.history_days)) & (time < last)
        columns = ["user_id", "video_id", "event_type", "watch_duration_ms", "timestamp"]
        events = self.lake.scan("events").to_table(columns=columns, filter=wanted)
        video = self.catalogue.rows(events["video_id"])
        played = floats(events["watch_duration_ms"])
        fraction = watch_fraction(played, self.catalogue.duration_s[video] * 1000.0)
        flags = {
            name: pc.equal(events["event_type"], event)
            for name, event in {
                "clicked": "click",
                "liked": "like",
                "shared": "share",
                "not_interested": "not_interested",
                "watched": "watch",
            }.items()
        }
        table = pa.table(
            {
                "user_id": events["user_id"],
                "video_id": events["video_id"],
                "engaged_at": events["timestamp"],
                "watch_ms": events["watch_duration_ms"],
                "watch_fraction": np.where(flags["watched"].to_numpy(), fraction, 0.0),
                **flags,
            }
        )
        return Interactions.of(table, self.catalogue, users)

    def _compared(self, block: str, rows: pa.Table, recomputed: Block) -> Compared:
        names = self.bundle.scorer.schema.block(block)
        return Compared(block, names, rows, unpacked(rows[block], len(names)), recomputed)

    @cached_property
    def catalogue(self) -> Catalogue:
        return self.bundle.catalogue
