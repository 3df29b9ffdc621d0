"""What the ranker should have read: blocks of logged rows, computed anew from the lake for their moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.logged import unpacked
from feature_repo.context import CONTEXT_HISTORY, context_features
from feature_repo.layout import layouts
from feature_repo.offline import aligned, defaults
from feature_repo.specs import USER, VIDEO, ViewSpec
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.columns import floats, micros
from models.crosses import LENGTH, Viewers
from models.dataset import Interactions
from models.history import watch_fraction
from models.layout import FeatureLayout
from upnext.ports import Lake

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
        for block, spec in (("user", USER), ("video", VIDEO)):
            yield self._stored(block, spec)
        at = micros(self.rows["timestamp"])
        live = np.abs(micros(self.rows["computed_for"]) - at) <= CLOCK / timedelta(microseconds=1)
        if not live.all():
            yield LeftOut("moment of a replayed log", int((~live).sum()))
        if live.any():
            rows = self.rows.filter(pa.array(live))
            context, cross = self._moments(rows)
            yield self._compared("context", rows, context)
            yield self._compared("cross", rows, cross)

    def _stored(self, block: str, spec: ViewSpec) -> Compared | LeftOut:
        """Features of a view as of the snapshot that serving had; defaults where it had none."""
        if self.bundle.manifest.layouts[spec.name].hash != layouts()[spec.name].hash:
            return LeftOut(f"layout of {spec.name} has changed", len(self.rows))
        taken = micros(self.rows[f"{block}_snapshot"])
        out = np.tile(defaults(spec.name), (len(taken), 1))
        for at in np.unique(taken[taken > 0]):
            mine = np.flatnonzero(taken == at)
            ids = self.rows[spec.key].take(pa.array(mine)).to_pylist()
            out[mine] = aligned(self.lake, spec.name, _time(int(at)), ids)
        return self._compared(block, self.rows, out)

    def _moments(self, rows: pa.Table) -> tuple[Block, Block]:
        """Context and cross features of rows, with the history that the lake's events tell."""
        requests = rows["request_id"].combine_chunks().dictionary_encode()
        viewer = np.asarray(requests.indices)
        first = rows.take(pa.array(np.unique(viewer, return_index=True)[1]))
        at, users = micros(first["computed_for"]), pc.unique(rows["user_id"]).to_pylist()
        past = self._past(users, _time(int(at.min())), _time(int(at.max())))
        place = {user: code for code, user in enumerate(users)}
        user = np.array([place[name] for name in first["user_id"].to_pylist()], np.int32)
        histories = past.histories(user, at, max(LENGTH, CONTEXT_HISTORY))
        surface, device, region, language = (
            first[name].to_pylist() for name in ("surface", "device", "region", "language")
        )
        layout = FeatureLayout.of(self.bundle.scorer.schema.context)
        context = context_features(layout, at, surface, device, histories)
        recent = histories.newest(LENGTH)
        viewers = Viewers(
            histories=recent,
            als=self.bundle.als.fold_in(recent),
            tower=self.bundle.towers.encode(recent),
            now=at,
            region=self.bundle.crosses.region_codes(region),
            language=self.bundle.crosses.language_codes(language),
        )
        videos = self.catalogue.rows(rows["video_id"])
        return context[viewer], self.bundle.crosses.pairs(viewers, viewer, videos)

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


def _time(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
