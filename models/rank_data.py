"""What the ranker reads: four blocks of features by name, and labels. Free of torch, for serving too."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.dataset import Examples
from upnext.errors import ConfigError, CorruptData, LayoutMismatch

BLOCKS = ("user", "context", "video", "cross")
"""Blocks in the order in which the ranker joins them."""


@dataclass(frozen=True)
class RankSchema:
    """Names of the ranker's inputs, and the hashes of the layouts that they are packed in.

    user_layout, video_layout: :attr:`models.layout.FeatureLayout.hash`; empty where a block is not stored.
    """

    user: tuple[str, ...]
    video: tuple[str, ...]
    context: tuple[str, ...]
    cross: tuple[str, ...]
    user_layout: str = ""
    video_layout: str = ""

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
class RankData:
    """k rows for the ranker: float32[k, d] per block, NaN unknown; labels float32[k] by head, NaN unknown.

    position: int32[k], place in the slate, -1 unknown. shown: bool[k], False for a sampled video.
    """

    user: NDArray[np.float32]
    context: NDArray[np.float32]
    video: NDArray[np.float32]
    cross: NDArray[np.float32]
    position: NDArray[np.int32]
    shown: NDArray[np.bool_]
    labels: dict[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.shown)

    @classmethod
    def of(cls, examples: Examples, cross: NDArray[np.float32]) -> Self:
        """Examples with their cross features, float32[k, dx]."""
        return cls(
            user=examples.user_features,
            context=examples.context,
            video=examples.video_features,
            cross=cross,
            position=examples.position,
            shown=examples.shown,
            labels=examples.labels,
        )

    def inputs(self, schema: RankSchema) -> NDArray[np.float32]:
        """All blocks side by side, float32[k, d]; LayoutMismatch where a block is not as the schema says."""
        for block in BLOCKS:
            schema.check(block, getattr(self, block).shape[1])
        return np.concatenate([getattr(self, block) for block in BLOCKS], axis=1, dtype=np.float32)

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
