"""The features that ranked each item of an answer, as the feature log keeps them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.rank_data import BLOCKS
from serving.answer import Answer
from upnext.contracts import LOGGED_FEATURES
from upnext.times import microseconds

if TYPE_CHECKING:
    from serving.impressions import Shown

Block = NDArray[np.float32]


@dataclass(frozen=True)
class ShownFeatures:
    """What the ranker read of the m items of one answer.

    user float32[du] and context float32[dc] are of all items; video float32[m, dv] and cross float32[m, dx]
    of each. Times are µs since the epoch: the moment that context and cross are of, in the release's time,
    and when the stored features of viewer and videos held (0: there were none).
    """

    user: Block
    context: Block
    video: Block
    cross: Block
    computed_for: int
    user_snapshot: int
    video_snapshot: int
    language: str | None
    release: str
    schema: str
    """Hash of the ranker's schema, which names the columns of the blocks."""

    @classmethod
    def of(cls, answer: Answer) -> "ShownFeatures | None":
        """Those of an answer's items, copied out of the pool's.

        None where nothing was ranked, or by features that are not of one time and so of no snapshot.
        """
        inputs = answer.ranked.inputs if answer.ranked else None
        if inputs is None or not inputs.video_at:
            return None
        viewer, bundle = answer.viewer, answer.release.bundle
        return cls(
            user=inputs.user,
            context=inputs.context,
            video=inputs.video[answer.slate.place],
            cross=inputs.cross[answer.slate.place],
            computed_for=viewer.now,
            user_snapshot=viewer.features_at,
            video_snapshot=inputs.video_at,
            language=viewer.language,
            release=answer.release.version,
            schema=bundle.scorer.schema.hash,
        )

    def __len__(self) -> int:
        return len(self.video)

    def values(self, block: str) -> tuple[bytes, int]:
        """A block's bytes, row after row, and how many there are in a row."""
        rows: Block = np.ascontiguousarray(getattr(self, block), "<f4")
        times = len(self) if rows.ndim == 1 else 1
        return rows.tobytes() * times, 4 * rows.shape[-1]


def logged(answers: Sequence["Shown"]) -> pa.Table:
    """Rows of LOGGED_FEATURES, one per item; answers without features have none."""
    pairs = [(shown, shown.features) for shown in answers if shown.features is not None]
    slates = [features for _, features in pairs]
    row_of = pa.array(np.repeat(np.arange(len(pairs)), [len(features) for features in slates]))

    def each(value: "Callable[[Shown, ShownFeatures], Any]", kind: pa.DataType) -> pa.Array:
        """One value per answer, repeated for its items."""
        return pa.array([value(*pair) for pair in pairs], kind).take(row_of)

    text, time = pa.string(), pa.int64()
    columns: dict[str, pa.Array] = {
        "request_id": each(lambda shown, _: shown.request_id, text),
        "user_id": each(lambda shown, _: shown.user_id, text),
        "video_id": pa.array([video_id for shown, _ in pairs for video_id in shown.video_ids], text),
        "position": pa.array([place for shown, _ in pairs for place in shown.positions], pa.int32()),
        "timestamp": each(lambda shown, _: microseconds(shown.at), time),
        "computed_for": each(lambda _, features: features.computed_for, time),
        "user_snapshot": each(lambda _, features: features.user_snapshot or None, time),
        "video_snapshot": each(lambda _, features: features.video_snapshot or None, time),
        "surface": each(lambda shown, _: shown.surface, text),
        "device": each(lambda shown, _: shown.device, text),
        "region": each(lambda shown, _: shown.region, text),
        "language": each(lambda _, features: features.language, text),
        "release": each(lambda _, features: features.release, text),
        "schema": each(lambda _, features: features.schema, text),
        **{block: _binary(slates, block) for block in BLOCKS},
    }
    return pa.table(columns).select(LOGGED_FEATURES.names).cast(LOGGED_FEATURES)


def _binary(slates: Sequence[ShownFeatures], block: str) -> pa.Array:
    """A block's rows as one binary column, without an object per row."""
    parts = [features.values(block) for features in slates]
    widths = np.repeat([width for _, width in parts], [len(features) for features in slates])
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    data = pa.py_buffer(b"".join(part for part, _ in parts))
    return pa.Array.from_buffers(pa.binary(), len(widths), [None, pa.py_buffer(offsets.tobytes()), data])
