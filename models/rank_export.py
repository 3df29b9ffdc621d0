"""The ranker as an ONNX graph, checked to answer as torch does."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.rank_data import BLOCKS, RankSchema
from models.rank_net import RankNet, Served
from models.scorer import MODEL, Scorer
from upnext.errors import CorruptData

PARITY = 2e-4  # greatest difference of torch and ONNX, relative to 1 + |value|
OPSET = 18

Blocks = dict[str, NDArray[np.float32]]


def export(served: Served, schema: RankSchema, folder: Path) -> None:
    """Write the graph into a folder that has its description; CorruptData where it answers otherwise."""
    widths = [len(schema.block(block)) for block in BLOCKS]
    rows = np.split(_probe(served.net, 16), np.cumsum(widths)[:-1], axis=1)
    blocks = dict(zip(BLOCKS, rows, strict=True))
    _write(served, blocks, folder / MODEL)
    _require_parity(served, Scorer.load(folder), blocks)


def _probe(net: RankNet, count: int) -> NDArray[np.float32]:
    """Made-up inputs over the range that the network knows, float32[count, d], some unknown."""
    rng = np.random.default_rng(0)
    mean, std = net.normalise.mean.numpy(), net.normalise.std.numpy()
    rows = (mean + std * rng.normal(size=(count, len(mean)))).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def _write(served: Served, blocks: dict[str, NDArray[np.float32]], path: Path) -> None:
    names = list(BLOCKS)
    with warnings.catch_warnings():
        # The exporter that replaces this one takes 7 s more for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            served,
            tuple(torch.from_numpy(blocks[name]) for name in names),
            str(path),
            input_names=names,
            output_names=["scores"],
            dynamic_axes={name: {0: f"{name}_rows"} for name in names} | {"scores": {0: "rows"}},
            opset_version=OPSET,
            dynamo=False,
        )


def _require_parity(served: Served, scorer: Scorer, blocks: dict[str, NDArray[np.float32]]) -> None:
    """Torch and ONNX must give the same, for one viewer with many videos and for many viewers."""
    one = {name: rows[:1] if name in ("user", "context") else rows for name, rows in blocks.items()}
    for case in (one, blocks):
        with torch.inference_mode():
            expected = served(*(torch.from_numpy(case[name]) for name in BLOCKS)).numpy()
        got = np.stack(list(scorer.run(**case).values()), axis=1)
        gap = float((np.abs(got - expected) / (1 + np.abs(expected))).max())
        if not gap <= PARITY:
            raise CorruptData(f"the exported ranker differs from the trained one by {gap:.2g}, over {PARITY}")
