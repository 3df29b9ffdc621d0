"""The trained ranker at serving time: onnxruntime, no torch."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.onnx_session import session
from models.rank_data import BLOCKS, COMPARED, Compared, RankData, RankSchema
from models.rank_scale import Scale
from upnext.errors import CorruptData, LayoutMismatch, MissingData

MODEL, META = "ranker.onnx", "ranker.json"
OF_VIEWER, OF_VIDEO = ("user", "context"), ("video", "cross")
VIEWERS = 256
"""Viewers of a batch whose features are prepared at once: a call for each costs as much as the network."""

Vector = NDArray[np.float32]


class Scorer:
    """Scores candidates on one thread; safe to call from several at once."""

    def __init__(
        self, session: Any, schema: RankSchema, heads: tuple[str, ...], meta: dict[str, Any]
    ) -> None:
        self._session = session
        self.schema = schema
        scales = meta.get("scales", {})
        self._scales = {block: Scale.from_dict(each) for block, each in scales.items()}
        self.heads = heads
        """Names of the outputs: probabilities, then ``watch_s`` in seconds."""
        self.meta = meta

    @classmethod
    def load(cls, folder: Path, graph: str = MODEL) -> Self:
        """What :meth:`models.ranker.Ranker.save` wrote; MissingData or CorruptData where it is not that."""
        for name in (graph, META):
            if not (folder / name).is_file():
                raise MissingData(f"{folder} has no {name}: train a ranker into it")
        try:
            meta = json.loads((folder / META).read_text())
            schema, heads = RankSchema.from_dict(meta["schema"]), tuple(meta["heads"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptData(f"{folder / META} can't be read: {error}; train the ranker again") from error
        return cls(session(folder / graph, "train the ranker again"), schema, heads, meta)

    def prepared(self, block: str, rows: Vector) -> Vector:
        """Features of one of BLOCKS, float32[n, d], as the network takes them."""
        self.schema.check(block, rows.shape[1])
        return self._scales[block].apply(rows) if block in self._scales else rows

    def score(
        self, user: Vector, video: Vector, context: Vector, cross: Vector, compared: Compared | None = None
    ) -> dict[str, Vector]:
        """Scores of C candidates for one viewer: by head, float32[C].

        Parameters
        ----------
        user, context: float32[du], float32[dc]
        video, cross: float32[C, dv], float32[C, dx]
        compared: candidates and history as vectors, where the schema has some
        """
        given = {"user": user[None], "context": context[None], "video": video, "cross": cross}
        blocks = {block: self.prepared(block, rows) for block, rows in given.items()}
        if not len(video):
            return {head: np.empty(0, np.float32) for head in self.heads}
        scores = self._run(blocks, compared)
        return {head: scores[:, column] for column, head in enumerate(self.heads)}

    def score_batch(self, data: RankData) -> dict[str, Vector]:
        """Scores of k rows of several viewers: by head, float32[k]."""
        out = np.empty((len(self.heads), len(data)), np.float32)
        order = np.argsort(data.viewer, kind="stable")
        bounds = np.flatnonzero(np.diff(data.viewer[order], prepend=-1, append=-1))
        for at in range(0, len(bounds) - 1, VIEWERS):
            edges = bounds[at : at + VIEWERS + 1]
            some, first = order[edges[0] : edges[-1]], order[edges[:-1]]
            viewers = {block: self.prepared(block, getattr(data, block)[first]) for block in OF_VIEWER}
            videos = {block: self.prepared(block, getattr(data, block)[some]) for block in OF_VIDEO}
            for viewer, (start, stop) in enumerate(pairwise(edges - edges[0])):
                rows = some[start:stop]
                blocks = {block: each[viewer : viewer + 1] for block, each in viewers.items()}
                blocks |= {block: each[start:stop] for block, each in videos.items()}
                out[:, rows] = self._run(blocks, self._beside(data, rows)).T
        return dict(zip(self.heads, out, strict=True))

    def _run(self, blocks: dict[str, Vector], compared: Compared | None) -> Vector:
        """float32[C, H] of prepared blocks."""
        feed = {
            name: np.ascontiguousarray(blocks[name], np.float32) for name in BLOCKS if self.schema.block(name)
        }
        if self.schema.vector:
            feed |= self._compared(compared)
        scores: Vector = self._session.run(None, feed)[0]
        return scores

    def _beside(self, data: RankData, rows: NDArray[np.intp]) -> Compared | None:
        """What rows of one viewer are held against."""
        if data.pasts is None or not self.schema.vector:
            return None
        history = data.pasts.histories[data.pasts.viewer[rows[:1]]]
        return Compared.of(data.pasts.vectors, data.pasts.video[rows], history)

    def _compared(self, compared: Compared | None) -> dict[str, Vector]:
        length = 0 if compared is None else compared.candidate.shape[1]
        if compared is None or length != self.schema.vector:
            raise LayoutMismatch(
                f"the videos' vectors have the length {length}, the ranker compares {self.schema.vector}: "
                "serve it with the towers that it was trained on"
            )
        return {name: np.ascontiguousarray(getattr(compared, name), np.float32) for name in COMPARED}
