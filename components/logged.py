"""Logged features in place of computed ones: what the ranker read of an example when it was shown.

Within one slate all examples must come from one place, or a model would learn to tell what was shown from
what was sampled by where its features are from. So viewer and moment are the logged ones for the whole slate,
and a sampled video has the features of the snapshot that serving had. What a release's own retrievers said of
an item is not taken over: the next ranker will stand beside retrievers trained anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from components.feature_log import TABLE
from feature_repo.offline import aligned
from feature_repo.specs import USER, VIDEO
from models.catalogue import Catalogue
from models.columns import codes, micros
from models.crosses import CROSS_NAMES, SPACES
from models.dataset import Examples
from models.layout import FeatureLayout
from models.rank_data import BLOCKS, RankSchema
from upnext.ports import Lake

CONTEXT = "context"
"""Name of the context's layout, beside those of the feature views."""
OF_RELEASE = np.array([name.startswith((*SPACES, "popularity")) for name in CROSS_NAMES])
"""bool[dx], cross features that are a matter of the release's retrievers and popularity."""


def rank_schema(layouts: Mapping[str, FeatureLayout]) -> RankSchema:
    """Names of the ranker's inputs, in order, and the layouts that two blocks are packed in."""
    names = {view: tuple(field.name for field in layout.fields) for view, layout in layouts.items()}
    return RankSchema(
        user=names[USER.name],
        video=names[VIDEO.name],
        context=names[CONTEXT],
        cross=CROSS_NAMES,
        user_layout=layouts[USER.name].hash,
        video_layout=layouts[VIDEO.name].hash,
    )


@dataclass(frozen=True)
class LoggedCross:
    """Cross features as logged, float32[m, dx], and int64[m], their places among a part's examples."""

    row: NDArray[np.int64]
    cross: NDArray[np.float32]

    @classmethod
    def none(cls) -> "LoggedCross":
        return cls(np.empty(0, np.int64), np.empty((0, len(CROSS_NAMES)), np.float32))

    def over(self, computed: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[k, dx] of all examples with the logged values put in place, save for those OF_RELEASE."""
        out = computed.copy()
        out[np.ix_(self.row, ~OF_RELEASE)] = self.cross[:, ~OF_RELEASE]
        return out

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, row=self.row, cross=self.cross)

    @classmethod
    def load(cls, file: Path) -> "LoggedCross":
        """What :meth:`save` wrote; nothing where there is no file."""
        if not file.is_file():
            return cls.none()
        with np.load(file) as arrays:
            return cls(arrays["row"], arrays["cross"])


@dataclass(frozen=True)
class LoggedRows:
    """m logged rows in the layout in use, ordered by slate and video.

    slate int32[m] and user int32[m] codes, video int32[m] catalogue rows, snapshot int64[m] µs (0: unknown);
    blocks: name -> float32[m, d].
    """

    slate: NDArray[np.int32]
    user: NDArray[np.int32]
    video: NDArray[np.int32]
    snapshot: NDArray[np.int64]
    blocks: dict[str, NDArray[np.float32]]
    videos: int

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """int64[m] ascending, of slate and video together."""
        return self.slate.astype(np.int64) * self.videos + self.video

    def of_slates(self, slate: NDArray[np.int32], user: NDArray[np.int32]) -> NDArray[np.int64]:
        """int64[k], a logged row of each example's slate and viewer; -1 where there is none."""
        place = np.searchsorted(self.slate, slate)
        at = np.minimum(place, len(self.slate) - 1)
        return np.where((self.slate[at] == slate) & (self.user[at] == user), at, -1)

    def of_items(self, slate: NDArray[np.int32], video: NDArray[np.int32]) -> NDArray[np.int64]:
        """int64[k], the logged row of each example's slate and video; -1 where there is none."""
        key = slate.astype(np.int64) * self.videos + video
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where(self.keys[at] == key, at, -1)


@dataclass(frozen=True)
class LoggedFeatures:
    """The lake's logged features of the slates that examples are made of.

    slates: str[s], request_ids by code (other names among them match nothing).
    """

    lake: Lake
    schema: RankSchema
    slates: pa.Array
    catalogue: Catalogue
    users: list[str]

    @cached_property
    def there(self) -> bool:
        return self.lake.version(TABLE) >= 0

    def ignored(self, since: int, until: int) -> int:
        """Rows logged between two times (µs) for a ranker of another schema."""
        if not self.there:
            return 0
        start, end = (datetime.fromtimestamp(time / 1e6, UTC) for time in (since, until))
        time = ds.field("timestamp")
        inside = (time >= start) & (time < end) & (ds.field("schema") != self.schema.hash)
        return int(self.lake.scan(TABLE).count_rows(filter=inside))

    def put_into(self, examples: Examples) -> LoggedCross:
        """Replace blocks of examples, in place, by the logged ones; answers with the cross block."""
        rows = self._read(np.unique(examples.request)) if self.there else None
        if rows is None or not len(rows.slate):
            return LoggedCross.none()
        of_slate = rows.of_slates(examples.request, examples.user)
        known = np.flatnonzero(of_slate >= 0)
        examples.user_features[known] = rows.blocks["user"][of_slate[known]]
        examples.context[known] = rows.blocks["context"][of_slate[known]]
        of_item = np.where(of_slate >= 0, rows.of_items(examples.request, examples.video), -1)
        shown = np.flatnonzero(of_item >= 0)
        examples.video_features[shown] = rows.blocks["video"][of_item[shown]]
        beside = np.flatnonzero((of_slate >= 0) & (of_item < 0))
        self._of_snapshots(examples, beside, rows.snapshot[of_slate[beside]])
        return LoggedCross(shown, rows.blocks["cross"][of_item[shown]])

    def _of_snapshots(self, examples: Examples, places: NDArray[np.int64], at: NDArray[np.int64]) -> None:
        """Give videos that were not shown the features of the snapshot that their slate was ranked with."""
        for taken in np.unique(at[at > 0]):
            mine = places[at == taken]
            ids = self.catalogue.ids[examples.video[mine]].tolist()
            time = datetime.fromtimestamp(int(taken) / 1e6, UTC)
            examples.video_features[mine] = aligned(self.lake, VIDEO.name, time, ids)

    def _read(self, slates: NDArray[np.int32]) -> LoggedRows:
        wanted = ds.field("request_id").isin(self.slates.take(pa.array(slates)))
        wanted &= ds.field("schema") == self.schema.hash
        columns = ["request_id", "user_id", "video_id", "video_snapshot", *BLOCKS]
        table = self.lake.scan(TABLE).to_table(columns=columns, filter=wanted)
        slate, video = codes(table["request_id"], self.slates), self.catalogue.rows(table["video_id"])
        order = np.lexsort((video, slate))
        order = order[video[order] >= 0]
        return LoggedRows(
            slate=slate[order],
            user=codes(table["user_id"], self.users)[order],
            video=video[order],
            snapshot=micros(table["video_snapshot"])[order],
            blocks={block: unpacked(table[block], len(self.schema.block(block)))[order] for block in BLOCKS},
            videos=len(self.catalogue),
        )


def unpacked(column: pa.ChunkedArray, width: int) -> NDArray[np.float32]:
    """A block of LOGGED_FEATURES as float32[m, width]."""
    joined = b"".join(column.to_pylist())
    return np.frombuffer(joined, "<f4").astype(np.float32).reshape(len(column), width)
