"""The ranker as an ONNX graph, checked to answer as the network that was trained."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.history import Histories
from models.onnx_export import write_onnx
from models.rank_calibration import Calibration
from models.rank_data import BLOCKS, COMPARED, Compared, Pasts, RankData, RankSchema
from models.rank_net import RankNet
from models.rank_scale import Scale
from models.rank_served import Served
from models.rank_targets import PROBABILITIES, Targets
from models.rank_train import Rows, predict
from models.scorer import MODEL, Scorer
from upnext.errors import CorruptData

PARITY = 2e-4  # greatest difference of torch and ONNX, relative to 1 + |value|
OPSET = 18


def export(
    net: RankNet,
    calibration: Calibration,
    schema: RankSchema,
    scales: Mapping[str, Scale],
    folder: Path,
) -> None:
    """Write the graph into a folder that has its description; CorruptData where it answers otherwise."""
    probe = _probe(schema, scales, 16, 5)
    _write(Served(net, calibration), _inputs(probe, scales), folder / MODEL)
    scorer = Scorer.load(folder)
    for rows in (probe, _probe(schema, scales, 3, 0)):
        _require_parity(net, calibration, rows, Rows.of(rows, schema, scales, _unknown(len(rows))), scorer)


def _probe(schema: RankSchema, scales: Mapping[str, Scale], count: int, entries: int) -> RankData:
    """One made-up viewer with ``count`` videos over the range that the network knows, some inputs unknown."""
    rng = np.random.default_rng(entries)
    blocks = {}
    for block, scale in scales.items():
        rows = (scale.mean + scale.std * rng.normal(size=(count, len(scale.mean)))).astype(np.float32)
        rows[rng.random(rows.shape) < 0.1] = np.nan
        blocks[block] = np.repeat(rows[:1], count, axis=0) if block in ("user", "context") else rows
    past = Histories(
        np.arange(entries, dtype=np.int32)[None],
        rng.uniform(-1, 3, (1, entries)).astype(np.float32),
        rng.uniform(0, 1e6, (1, entries)).astype(np.float32),
    )
    vectors = rng.normal(size=(max(count, entries), schema.vector)).astype(np.float32)
    videos = np.arange(count, dtype=np.int32)
    pasts = Pasts(vectors, past, np.zeros(count, np.int32), videos) if schema.vector else None
    shown = np.ones(count, np.bool_)
    return RankData(**blocks, position=np.full(count, -1, np.int32), shown=shown, labels={}, pasts=pasts)


def _inputs(rows: RankData, scales: Mapping[str, Scale]) -> dict[str, NDArray[np.float32]]:
    """What the graph is asked for rows of one viewer."""
    inputs = {block: scales[block].apply(getattr(rows, block)) for block in BLOCKS}
    inputs |= {block: inputs[block][:1] for block in ("user", "context")}
    if rows.pasts is not None:
        compared = Compared.of(rows.pasts.vectors, rows.pasts.video, rows.pasts.histories)
        inputs |= {name: getattr(compared, name) for name in COMPARED}
    return inputs


def _write(served: Served, inputs: dict[str, NDArray[np.float32]], path: Path) -> None:
    many = {"video": "videos", "cross": "videos", "candidate": "videos"}
    many |= dict.fromkeys(("past", "strength", "age_s"), "entries")
    axes = {name: {0: axis} for name, axis in many.items() if name in inputs}
    example = {name: torch.from_numpy(np.ascontiguousarray(rows)) for name, rows in inputs.items()}
    write_onnx(served, example, ["scores"], axes | {"scores": {0: "videos"}}, path, OPSET)


def _unknown(count: int) -> Targets:
    """Rows without a label."""
    nothing = np.zeros((count, len(PROBABILITIES)), np.float32)
    return Targets(nothing, nothing, np.full(count, -1, np.int64))


def _require_parity(
    net: RankNet, calibration: Calibration, data: RankData, rows: Rows, scorer: Scorer
) -> None:
    """The graph must answer for some rows as the network that was trained does."""
    logits, seconds = predict(net, rows, calibration.seconds)
    expected = np.column_stack([calibration.probabilities(logits), seconds])
    got = np.stack(list(scorer.score_batch(data).values()), axis=1)
    gap = float((np.abs(got - expected) / (1 + np.abs(expected))).max())
    if not gap <= PARITY:
        raise CorruptData(f"the exported ranker differs from the trained one by {gap:.2g}, over {PARITY}")
