"""What the ranker reads: four blocks of features by name, and labels. Free of torch, for serving too."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.dataset import Examples
from models.history import Histories
from models.rank_scale import Scale
from models.stacked import Vectors
from upnext.errors import ConfigError, CorruptData, LayoutMismatch

BLOCKS = ("user", "context", "video", "cross")
"""Blocks in the order in which the ranker joins them."""
COMPARED = ("candidate", "past", "strength", "age_s")
"""Inputs by which a candidate is held against the history."""


@dataclass(frozen=True)
class RankSchema:
    """Names of the ranker's inputs, and the hashes of the layouts that they are packed in.

    user_layout, video_layout: :attr:`models.layout.FeatureLayout.hash`; empty where a block is not stored.
    vector: length of the videos' vectors by which a candidate is held against the history; 0 for none.
    """

    user: tuple[str, ...]
    video: tuple[str, ...]
    context: tuple[str, ...]
    cross: tuple[str, ...]
    user_layout: str = ""
    video_layout: str = ""
    vector: int = 0

    def __post_init__(self) -> None:
        for block in BLOCKS:
            names = self.block(block)
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{block} inputs name {', '.join(twice)} twice: give each its own name")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        return sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def block(self, name: str) -> tuple[str, ...]:
        """Names of one of BLOCKS."""
        names: tuple[str, ...] = getattr(self, name)
        return names

    def check(self, block: str, width: int) -> None:
        """Raise LayoutMismatch unless a block of the ranker's input has the right number of columns."""
        expected = len(self.block(block))
        if width != expected:
            raise LayoutMismatch(
                f"{block} features have {width} columns, the ranker was trained on {expected}: "
                "materialise and train again, so that both are of one layout"
            )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), **{block: list(self.block(block)) for block in BLOCKS}}

    @classmethod
    def from_dict(cls, parsed: dict[str, Any]) -> Self:
        """What :meth:`to_dict` gave; CorruptData when it is something else."""
        try:
            return cls(**{**parsed, **{block: tuple(parsed[block]) for block in BLOCKS}})
        except (KeyError, TypeError) as error:
            raise CorruptData(f"not a schema of the ranker's inputs: {error}") from error


@dataclass(frozen=True)
class Compared:
    """One viewer's candidates and history as vectors.

    candidate: float32[C, E]; past: float32[L, E]; strength, age_s: float32[L]. No entry is padding.
    """

    candidate: NDArray[np.float32]
    past: NDArray[np.float32]
    strength: NDArray[np.float32]
    age_s: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Vectors, rows: NDArray[np.int32], history: Histories) -> Self:
        """Candidates int32[C], rows of ``vectors`` float32[n, E], beside the one viewer of ``history``."""
        held = history.mask[0]
        past = history.rows[0, held]
        return cls(vectors[rows], vectors[past], history.strength[0, held], history.age_s[0, held])


@dataclass(frozen=True)
class Pasts:
    """What the videos of k rows are held against.

    vectors: float32[n, E]; histories: [V, L], in rows of ``vectors``.
    viewer, video: int32[k], rows of ``histories`` and of ``vectors``.
    """

    vectors: NDArray[np.float32]
    histories: Histories
    viewer: NDArray[np.int32]
    video: NDArray[np.int32]


@dataclass(frozen=True)
class RankData:
    """k rows for the ranker: float32[k, d] per block, NaN unknown; labels float32[k] by head, NaN unknown.

    position: int32[k], place in the slate, -1 unknown. shown: bool[k], False for a sampled video.
    pasts: where the schema has vectors.
    """

    user: NDArray[np.float32]
    context: NDArray[np.float32]
    video: NDArray[np.float32]
    cross: NDArray[np.float32]
    position: NDArray[np.int32]
    shown: NDArray[np.bool_]
    labels: dict[str, NDArray[np.float32]]
    pasts: Pasts | None = None

    def __len__(self) -> int:
        return len(self.shown)

    @classmethod
    def of(cls, examples: Examples, cross: NDArray[np.float32], pasts: Pasts | None = None) -> Self:
        """Examples with their cross features, float32[k, dx], and what they are held against."""
        return cls(
            user=examples.user_features,
            context=examples.context,
            video=examples.video_features,
            cross=cross,
            position=examples.position,
            shown=examples.shown,
            labels=examples.labels,
            pasts=pasts,
        )

    def __getitem__(self, which: slice | NDArray[Any]) -> "RankData":
        """Some of the rows."""
        pasts = self.pasts and replace(
            self.pasts, viewer=self.pasts.viewer[which], video=self.pasts.video[which]
        )
        columns = {name: getattr(self, name)[which] for name in (*BLOCKS, "position", "shown")}
        labels = {head: label[which] for head, label in self.labels.items()}
        return RankData(**columns, labels=labels, pasts=pasts)

    @property
    def viewer(self) -> NDArray[np.int32]:
        """int32[k], a number for each viewer at a moment; without pasts every row is of its own."""
        return np.arange(len(self), dtype=np.int32) if self.pasts is None else self.pasts.viewer

    def check(self, schema: RankSchema) -> None:
        """Raise LayoutMismatch where a block is not as the schema says."""
        for block in BLOCKS:
            schema.check(block, getattr(self, block).shape[1])

    def inputs(self, scales: Mapping[str, Scale]) -> NDArray[np.float32]:
        """All blocks normalised, side by side, float32[k, D]."""
        parts = [scales[block].apply(getattr(self, block)) for block in BLOCKS]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def held_against(self, schema: RankSchema) -> tuple[NDArray[np.int32], NDArray[np.float32], Histories]:
        """Rows of the videos int32[k] in vectors float32[n, E], and the histories of viewers.

        Without vectors in the schema, E and the histories are empty. LayoutMismatch where they are of another
        length.
        """
        if not schema.vector:
            return np.zeros(len(self), np.int32), np.zeros((1, 0), np.float32), Histories.empty(0, 0)
        length = self.pasts.vectors.shape[1] if self.pasts else 0
        if self.pasts is None or length != schema.vector:
            raise LayoutMismatch(
                f"the videos' vectors have the length {length}, the ranker compares {schema.vector}: "
                "train it on these towers"
            )
        return self.pasts.video, self.pasts.vectors, self.pasts.histories

    def relevant(self) -> NDArray[np.float32]:
        """The label of ``relevance``, float32[k]: 1 engaged with, 0 sampled or objected to, NaN otherwise.

        What was shown and passed over says something of its worth, which the other heads learn, but it was
        near enough to be shown: as a negative beside sampled videos it would hide who finds what.
        """
        known = {head: np.nan_to_num(label) > 0 for head, label in self.labels.items()}
        engaged = known["click"] | known["long_view"] | known["like"] | known["share"]
        objected = known["not_interested"]
        passed_over = self.shown & ~engaged & ~objected
        return np.where(passed_over, np.nan, engaged & ~objected).astype(np.float32)
