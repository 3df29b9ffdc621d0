"""The trained towers as serving runs them: item vectors, and both towers in onnxruntime, without torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Catalogue
from models.files import reading
from models.history import SECOND, Histories
from models.onnx_session import session
from models.popularity_prior import PopularityPrior
from models.stacked import Vectors
from models.video_inputs import VideoInputs
from models.viewer_inputs import CONTEXT
from upnext.errors import CorruptData

ITEMS, EMBEDDINGS, META = "item_vectors.npy", "embeddings.npy", "meta.json"
USER_TOWER, VIDEO_TOWER = "user_tower.onnx", "video_tower.onnx"
PRIOR = "prior.npz"
STATE = "state.npz"
"""Weights to train on from, where they were kept."""
USER_INPUTS = ("past", "strength", "age_s", "mask", "context")
VIDEO_INPUTS = ("tokens", "category", "creator", "duration", "visual", "age")
AGAIN = "train the towers again"
CHUNK = 4096
"""Viewers or videos that are run at once."""


@dataclass(frozen=True)
class Towers:
    """Item vectors, and what makes vectors of viewers and of new videos.

    An inner product is cosine + temperature · log popularity: the first D - 1 places of a vector are a
    direction of length 1, the last is 1 for a viewer and the popularity of a video. So divided by the
    temperature, it is a log-odds up to a constant.

    items: float32[n, D]; embeddings: float32[n, E], what the user tower reads of a video.
    """

    folder: Path
    items: NDArray[np.float32]
    embeddings: Vectors
    meta: dict[str, Any]
    user_tower: Any
    video_tower: Any
    prior: PopularityPrior | None
    """None in towers of an older release."""

    @classmethod
    def load(cls, folder: Path) -> "Towers":
        """Read an exported folder; arrays are memory-mapped."""
        parts = ITEMS, EMBEDDINGS, META, USER_TOWER, VIDEO_TOWER
        with reading("towers", folder, *parts, remedy="run `upnext step two_tower` first"):
            meta = json.loads((folder / META).read_text())
            items, embeddings = (np.load(folder / name, mmap_mode="r") for name in (ITEMS, EMBEDDINGS))
        if items.shape != (len(embeddings), meta.get("width")):
            raise CorruptData(
                f"{folder / ITEMS} is {items.shape}, not ({len(embeddings)}, {meta.get('width')})"
            )
        return cls(
            folder,
            items,
            embeddings,
            meta,
            session(folder / USER_TOWER, AGAIN),
            session(folder / VIDEO_TOWER, AGAIN),
            PopularityPrior.load(folder / PRIOR) if (folder / PRIOR).is_file() else None,
        )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def directions(self) -> NDArray[np.float32]:
        """float32[n, D - 1] of length 1: what a video is about, without its popularity."""
        return self.items[:, :-1]

    def encode(self, histories: Histories, context: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Vectors of viewers, float32[B, D]; of the newest ``meta['length']`` entries, any number of them.

        context: int64[B, 3] as of :func:`models.viewer_inputs.context`; None: unknown. A viewer without a
        history gets the vector of nobody in particular, which favours what is popular.
        """
        read = histories.newest(int(self.meta["length"]))
        vectors = np.ones((len(read), self.items.shape[1]), np.float32)
        context = np.zeros((len(read), CONTEXT), np.int64) if context is None else context
        for at in range(0, len(read), CHUNK):
            some = read[at : at + CHUNK]
            known = some.mask & (some.rows < len(self.embeddings))
            past = self.embeddings[np.where(known, some.rows, 0)]
            inputs = (past, some.strength, some.age_s, known, context[at : at + CHUNK])
            vectors[at : at + CHUNK, :-1] = _run(self.user_tower, USER_INPUTS, inputs)[0]
        return vectors

    def encode_videos(
        self, videos: Catalogue, now: int, visual: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors float32[m, D] and embeddings float32[m, E] of videos that came after training.

        Parameters
        ----------
        videos
            They stand on title, tags, creator, category and duration alone, as if of the age that most videos
            are of, with the popularity that these let expect, which fades from their upload on.
        now
            Microseconds since 1970 UTC.
        visual
            float32[m, 32], what their thumbnails look like; None: unknown.
        """
        inputs = VideoInputs.of(videos, visual)
        vectors = np.empty((len(inputs), self.items.shape[1]), np.float32)
        popularity = np.zeros(len(inputs))
        if self.prior is not None:
            told = np.where(inputs.uploaded_at > 0, inputs.uploaded_at, now)  # or else heard of just now
            popularity = self._advance(self.prior.of(inputs), np.minimum(told, now), now)
        vectors[:, -1] = self._bias(popularity)
        embeddings = np.zeros((len(inputs), self.embeddings.shape[1]), np.float32)
        usual = self.meta.get("usual_age")
        age = inputs.age(np.arange(len(inputs)), now) if usual is None else np.full(len(inputs), usual)
        columns = (inputs.tokens, inputs.category, inputs.creator, inputs.duration, inputs.visual, age)
        for at in range(0, len(inputs), CHUNK):
            part = slice(at, at + CHUNK)
            some = [column[part] for column in columns]
            vectors[part, :-1], embeddings[part] = _run(self.video_tower, VIDEO_INPUTS, some)
        return vectors, embeddings

    def with_popularity(
        self, popularity: NDArray[np.floating], uploaded_at: NDArray[np.int64] | None = None, now: int = 0
    ) -> "Towers":
        """The same towers with the popularity of another day: decayed sums of strength, float[n].

        uploaded_at: int64[n], microseconds, 0 unknown. Given these and ``now``, a video counts as if it had
        been engaged with at its upload as much as its content lets expect, which decays as all engagement
        does: an hour after the upload that says more than that nobody has watched it yet.
        """
        if popularity.shape != (len(self),):
            raise ValueError(f"popularity is {popularity.shape}, not ({len(self)},)")
        mean = float(popularity.mean())
        changed = replace(self, meta={**self.meta, "mean_popularity": mean})
        if uploaded_at is not None and self.prior is not None:
            popularity = popularity + changed._advance(self.prior.videos, uploaded_at, now)
        items = np.array(self.items)
        items[:, -1] = changed._bias(popularity)
        return replace(changed, items=items)

    def save(self, folder: Path) -> None:
        """Write a folder like the one that was loaded, with this popularity."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / ITEMS, self.items)
        np.save(folder / EMBEDDINGS, np.asarray(self.embeddings))
        (folder / META).write_text(json.dumps(self.meta, indent=2))
        for name in (USER_TOWER, VIDEO_TOWER, STATE):
            if (self.folder / name).is_file():
                copyfile(self.folder / name, folder / name)
        if self.prior is not None:
            self.prior.save(folder / PRIOR)

    def _advance(
        self, expected: NDArray[np.floating], uploaded_at: NDArray[np.int64], now: int
    ) -> NDArray[np.float64]:
        """What is left of the popularity that was expected at the upload, float64[n]; 0 where that is unknown
        or still to come."""
        age_h = (now - uploaded_at) / (3600 * SECOND)
        left = 0.5 ** (np.maximum(age_h, 0) / float(self.meta["popularity_half_life_h"]))
        at_first = np.maximum(np.exp(expected) * (float(self.meta["mean_popularity"]) + 1) - 1, 0)
        return np.where((uploaded_at > 0) & (age_h >= 0), at_first * left, 0)

    def _bias(self, popularity: NDArray[np.floating]) -> NDArray[np.float32]:
        relative = np.log((popularity + 1) / (float(self.meta["mean_popularity"]) + 1))
        return np.asarray(float(self.meta["temperature"]) * relative, dtype=np.float32)


def _run(tower: Any, names: Sequence[str], columns: Sequence[NDArray[Any]]) -> Any:
    """What a tower says; towers of an older release read fewer inputs."""
    read = {given.name for given in tower.get_inputs()}
    feed = {name: column for name, column in zip(names, columns, strict=True) if name in read}
    return tower.run(None, feed)
