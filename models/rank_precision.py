"""Whether the ranker serves in fp32 or with int8 weights: measured, on the rows that it was tuned on."""

import logging
from math import isnan, nan, prod
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from models.rank_calibration import Figures, figures
from models.rank_data import Compared, RankData
from models.rank_targets import PROBABILITIES, Plan
from models.scorer import MODEL, Scorer

INT8 = "ranker.int8.onnx"
AUC_LOSS = 0.001
"""What a head's AUC, and the order of expected seconds, may lose."""
MAE_RISE = 0.002
"""Share by which the error of expected seconds may rise."""
ROWS = 20_000
"""Validation rows that are scored in both precisions at most."""
LARGE = 8_192
"""Weights of a matrix from which on its product is worth quantising."""
CANDIDATES = 1_000
RUNS = 40
"""Requests that are timed in each precision, in turn."""
SLOWER = 1.25
"""Times that int8 may take before it is not worth it. Not 1: noise must not decide what is released."""


def choose_precision(folder: Path, valid: RankData, plan: Plan) -> dict[str, Any]:
    """Keep the int8 twin of the fp32 graph in ``folder`` if it is as good, and not slower on this machine.

    Says which, the milliseconds of a request with ``CANDIDATES`` videos and the figures of both.
    """
    if not quantise(folder / MODEL, folder / INT8):
        return {"chosen": "fp32", "why_not_int8": ["no matrix is large enough"]}
    scorers = {"fp32": Scorer.load(folder), "int8": Scorer.load(folder, INT8)}
    some = _some_viewers(valid)
    judged = {name: _judge(scorer, some, plan) for name, scorer in scorers.items()}
    taken = _milliseconds(scorers, some) if len(some) else dict.fromkeys(scorers, 0.0)
    lost = losses(judged["fp32"], judged["int8"])
    slow = taken["int8"] > SLOWER * taken["fp32"]
    chosen = "int8" if len(some) and not lost and not slow else "fp32"
    if chosen == "int8":
        (folder / INT8).replace(folder / MODEL)
    else:
        (folder / INT8).unlink()
    return {
        "chosen": chosen,
        "why_not_int8": lost or ([] if chosen == "int8" else ["slower"]),
        "milliseconds": taken,
        "valid": judged,
    }


def quantise(source: Path, target: Path) -> bool:
    """The large matrix products with int8 weights per column, and inputs as uint8 by their range at run time.

    False, and no file, where no matrix is large.

    Small ones gain nothing, and sums of exponentials would lose what is small beside the greatest.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    large = {held.name for held in graph.initializer if prod(held.dims) >= LARGE}
    products = [node.name for node in graph.node if large.intersection(node.input)]
    if not products:
        return False
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises shape inference, which the exporter has done
    try:
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=[*products, *(f"{name}_MatMul" for name in products)],
        )
    finally:
        root.setLevel(level)
    return True


def losses(fp32: Figures, int8: Figures) -> list[str]:
    """What int8 loses too much of; empty when nothing."""
    out = []
    for head, figure in [*((head, "auc") for head in PROBABILITIES), ("watch_s", "xauc")]:
        before, after = (given.get(head, {}).get(figure, nan) for given in (fp32, int8))
        if not isnan(before) and not before - after < AUC_LOSS:
            out.append(f"{figure} of {head}: {after:.4f} against {before:.4f}")
    before, after = (given.get("watch_s", {}).get("mae", nan) for given in (fp32, int8))
    if not isnan(before) and not after <= before * (1 + MAE_RISE):
        out.append(f"error of watch_s: {after:.3f} s against {before:.3f} s")
    return out


def _some_viewers(valid: RankData) -> RankData:
    """Whole viewers, evenly spaced, with about ROWS rows."""
    viewer = valid.viewer
    kept = viewer % max(1, -(-len(valid) // ROWS)) == 0
    return valid[np.flatnonzero(kept)]


def _judge(scorer: Scorer, rows: RankData, plan: Plan) -> Figures:
    heads = scorer.score_batch(rows)
    chances = np.stack([heads[head] for head in PROBABILITIES], axis=1)
    return figures(plan, plan.targets(rows), rows.labels["watch_s"], chances, heads["watch_s"])


def _milliseconds(scorers: dict[str, Scorer], rows: RankData) -> dict[str, float]:
    """Median of a request of one viewer with CANDIDATES videos; the precisions take turns."""
    place = np.arange(CANDIDATES) % len(rows)
    compared = None
    if rows.pasts is not None:
        history = rows.pasts.histories[rows.pasts.viewer[:1]]
        compared = Compared.of(rows.pasts.vectors, rows.pasts.video[place], history)
    taken: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(RUNS):
        for name, scorer in scorers.items():
            start = perf_counter()
            scorer.score(rows.user[0], rows.video[place], rows.context[0], rows.cross[place], compared)
            taken[name].append(1e3 * (perf_counter() - start))
    return {name: float(np.median(each)) for name, each in taken.items()}
