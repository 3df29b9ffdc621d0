"""What popularity a video without a history may expect, by what is known of it.

A ridge regression of the log popularity of videos with a history on their content, as the embeddings start
(:mod:`models.content_start`). The mean of exp(log popularity) lies far above exp(its mean), so the level is
moved until what is expected of the known videos is on average what they have (Duan, "Smearing estimate: a
nonparametric retransformation method", JASA 1983).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.content_start import WELL_KNOWN, content_start, explained
from models.files import arrays_of, reading
from models.video_inputs import VideoInputs


@dataclass(frozen=True)
class PopularityPrior:
    """Popularity is a decayed sum of strengths; all here is ln((popularity + 1) / (mean + 1)).

    videos: float32[n], of the videos that it was fitted on.
    tokens, creator, category, duration: float32[buckets, 1], visual: float32[1, 32], what each adds.
    level: what a video has of which nothing is known.
    """

    videos: NDArray[np.float32]
    tokens: NDArray[np.float32]
    creator: NDArray[np.float32]
    category: NDArray[np.float32]
    duration: NDArray[np.float32]
    visual: NDArray[np.float32]
    level: float

    @classmethod
    def fit(
        cls, inputs: VideoInputs, popularity: NDArray[np.floating], met: NDArray[np.bool_]
    ) -> "PopularityPrior":
        """From the popularity float[n] of the videos that somebody has met, bool[n], at least one."""
        actual = np.log((popularity + 1) / (popularity.mean() + 1))
        usual = actual[met].mean()
        target = np.where(met, actual - usual, 0).astype(np.float32)[:, None]
        tables = content_start(inputs, target, WELL_KNOWN * met)
        told = explained(inputs, tables)[:, 0]
        level = float(np.log(np.exp(actual[met]).mean() / np.exp(told[met]).mean()))
        return cls(told + np.float32(level), **tables, level=level)

    def of(self, inputs: VideoInputs) -> NDArray[np.float32]:
        """float32[m], of any videos."""
        tables = {
            name: getattr(self, name) for name in ("tokens", "creator", "category", "duration", "visual")
        }
        return explained(inputs, tables)[:, 0] + np.float32(self.level)

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> "PopularityPrior":
        """Read what :meth:`save` wrote."""
        with reading("popularity prior", path), arrays_of(path) as arrays:
            level = float(arrays["level"])
            return cls(**{name: arrays[name] for name in arrays.files if name != "level"}, level=level)
