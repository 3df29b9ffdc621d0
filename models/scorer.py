"""The trained ranker at serving time: onnxruntime, no torch."""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rank_data import BLOCKS, RankData, RankSchema
from upnext.errors import CorruptData, MissingData

MODEL, META = "ranker.onnx", "ranker.json"
BATCH = 8_192
"""Rows of one call when scoring many examples."""

Vector = NDArray[np.float32]


class Scorer:
    """Scores candidates on one thread; safe to call from several at once."""

    def __init__(
        self, session: Any, schema: RankSchema, heads: tuple[str, ...], meta: dict[str, Any]
    ) -> None:
        self._session = session
        self.schema = schema
        self.heads = heads
        """Names of the outputs: probabilities, then ``watch_s`` in seconds."""
        self.meta = meta

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What :meth:`models.ranker.Ranker.save` wrote; MissingData or CorruptData where it is not that."""
        import onnxruntime

        for name in (MODEL, META):
            if not (folder / name).is_file():
                raise MissingData(f"{folder} has no {name}: train a ranker into it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            meta = json.loads((folder / META).read_text())
            schema, heads = RankSchema.from_dict(meta["schema"]), tuple(meta["heads"])
            session = onnxruntime.InferenceSession(
                str(folder / MODEL), options, providers=["CPUExecutionProvider"]
            )
        except (ValueError, KeyError) as error:
            raise CorruptData(f"{folder / META} can't be read: {error}; train the ranker again") from error
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise CorruptData(f"{folder / MODEL} can't be loaded: {error}; train the ranker again") from error
        return cls(session, schema, heads, meta)

    def score(self, user: Vector, video: Vector, context: Vector, cross: Vector) -> dict[str, Vector]:
        """Scores of C candidates for one viewer: by head, float32[C].

        Parameters
        ----------
        user, context: float32[du], float32[dc]; the graph broadcasts them
        video, cross: float32[C, dv], float32[C, dx]
        """
        return self.run(user[None], video, context[None], cross)

    def score_batch(self, data: RankData) -> dict[str, Vector]:
        """Scores of k rows, each with a viewer of its own: by head, float32[k]."""
        parts = []
        for start in range(0, max(len(data), 1), BATCH):
            part = slice(start, start + BATCH)
            parts.append(self.run(data.user[part], data.video[part], data.context[part], data.cross[part]))
        return {head: np.concatenate([part[head] for part in parts]) for head in self.heads}

    def run(self, user: Vector, video: Vector, context: Vector, cross: Vector) -> dict[str, Vector]:
        blocks = {"user": user, "context": context, "video": video, "cross": cross}
        feed = {}
        for name in BLOCKS:
            self.schema.check(name, blocks[name].shape[1])
            if self.schema.block(name):
                feed[name] = np.ascontiguousarray(blocks[name], np.float32)
        scores = self._session.run(None, feed)[0]
        return {head: scores[:, column] for column, head in enumerate(self.heads)}
