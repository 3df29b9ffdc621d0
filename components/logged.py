"""Logged features in place of computed ones: what the ranker read of an example when it was shown.

Within one slate all examples must come from one place, or a model would learn to tell what was shown from
what was sampled by where its features are from. So viewer and moment are the logged ones for the whole slate,
and a sampled video has the features of the snapshot that serving had. What a release's own retrievers said of
an item is not taken over: the next ranker will stand beside retrievers trained anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from models.cross_specs import SPACES
from models.dataset import Examples
from models.rank_data import BLOCKS, RankSchema
from upnext.ports import Lake
from upnext.times import moment

RELEASES_OWN = (*SPACES, "popularity", "neighbour_votes")
"""Beginnings of the names of what a release's own retrievers and popularity say of a candidate."""


@dataclass(frozen=True)
class LoggedCross:
    """What was logged of candidates, float32[m, dx], and int64[m], their places among a part's examples."""

    row: NDArray[np.int64]
    cross: NDArray[np.float32]

    @classmethod
    def none(cls) -> "LoggedCross":
        return cls(np.empty(0, np.int64), np.empty((0, 0), np.float32))

    def over(self, computed: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """float32[k, dx] of all examples, columns by ``names``, with the logged values put in place.

        Columns that are RELEASES_OWN stay as they were computed.
        """
        if not len(self.row):
            return computed
        out, taken = computed.copy(), [not name.startswith(RELEASES_OWN) for name in names]
        out[np.ix_(self.row, taken)] = self.cross[:, taken]
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
        start, end = (moment(time) for time in (since, until))
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
        user, video = self._places
        examples.user_features[np.ix_(known, user)] = rows.blocks["user"][of_slate[known]]
        examples.context[known] = rows.blocks["context"][of_slate[known]]
        of_item = np.where(of_slate >= 0, rows.of_items(examples.request, examples.video), -1)
        self._of_snapshots(examples, known, rows.snapshot[of_slate[known]])
        shown = np.flatnonzero(of_item >= 0)
        examples.video_features[np.ix_(shown, video)] = rows.blocks["video"][of_item[shown]]
        return LoggedCross(shown, rows.blocks["cross"][of_item[shown]])

    @property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where what the ranker reads is among the features of viewers and of videos."""
        user, video = ({name: at for at, name in enumerate(spec.names)} for spec in (USER, VIDEO))
        return (
            np.array([user[name] for name in self.schema.user], np.int64),
            np.array([video[name] for name in self.schema.video], np.int64),
        )

    def _of_snapshots(self, examples: Examples, places: NDArray[np.int64], at: NDArray[np.int64]) -> None:
        """Give videos the features of the snapshot that their slate was ranked with, those not shown too."""
        for taken in np.unique(at[at > 0]):
            mine = places[at == taken]
            ids = self.catalogue.ids[examples.video[mine]].tolist()
            time = moment(taken)
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
