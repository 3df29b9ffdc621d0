"""Training of the multi-task ranker and its export to ONNX; :mod:`models.scorer` runs what it writes.

Heads: P(click), P(watched more than half), P(like), P(share) and P(not interested) of a video that is shown;
``relevance``, P(the viewer engages) of any video of the catalogue, learned from sampled videos too; and
``watch_s``, the expected seconds, as the mean over a softmax of watch-time bins.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.rank_calibration import Calibration, figures
from models.rank_data import BLOCKS, RankData, RankSchema
from models.rank_export import export
from models.rank_net import RankNet, Shape
from models.rank_precision import choose_precision
from models.rank_scale import Scale
from models.rank_targets import CONSTANT, PROBABILITIES, Plan
from models.rank_train import Progress, RankerConfig, Rows, Timing, predict, train
from models.scorer import META
from models.workers import Workers, torch_state
from upnext.errors import CorruptData, EmptyData

HEADS = (*PROBABILITIES, "watch_s")
WEIGHTS = "ranker.pt"


@dataclass(frozen=True)
class Ranker:
    """A trained ranker."""

    net: RankNet
    schema: RankSchema
    config: RankerConfig
    scales: dict[str, Scale]
    """By block of inputs."""
    plan: Plan
    calibration: Calibration
    vectors: str
    """SHA-256 of the videos' vectors that it learned to compare; empty for none."""
    report: dict[str, Any]
    timing: Timing
    """What the training took; not in the report, which is the same for the same seed."""

    def save(self, folder: Path, valid: RankData | None = None) -> None:
        """Write the ONNX graph, its description and the weights; checks that ONNX answers as torch does.

        With validation rows, the int8 graph takes the fp32 one's place where it is as good and faster.
        """
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.net.state_dict(), folder / WEIGHTS)
        meta = {
            "schema": self.schema.to_dict(),
            "schema_hash": self.schema.hash,
            "heads": HEADS,
            "shape": asdict(self.net.shape),
            "scales": {block: each.to_dict() for block, each in self.scales.items()},
            "vectors": self.vectors,
            "edges": self.plan.edges.tolist(),
            "config": asdict(self.config),
            "report": self.report,
        }
        (folder / META).write_text(json.dumps(meta, indent=1))
        export(self.net, self.calibration, self.schema, self.scales, folder)
        if valid is not None:
            meta["precision"] = choose_precision(folder, valid, self.plan)
            (folder / META).write_text(json.dumps(meta, indent=1))


def fit(
    train_rows: RankData,
    valid_rows: RankData,
    schema: RankSchema,
    config: RankerConfig | None = None,
    warm_start: Path | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> Ranker:
    """Train on some rows, stop and calibrate on others.

    Parameters
    ----------
    warm_start
        Folder of an earlier ranker; its weights and scales are taken where its inputs and sizes are the same.
    progress
        Told the epoch (from 1), the training loss and the validation loss (NaN without validation rows).
    workers
        This process among those that train together, each with all rows; it alone by default.

    Raises
    ------
    EmptyData without a training row; DataError for a label outside 0 to 1 or a loss that is not a number;
    CorruptData for a warm start from files that can't be read.
    """
    config, workers = config or RankerConfig(), workers or Workers()
    if not len(train_rows):
        raise EmptyData("no training example: the ranker needs some between history_end and valid_start")
    train_rows.check(schema)
    with torch_state(config.seed, config.threads):
        earlier = _earlier(warm_start, schema)
        plan = Plan.of(train_rows, config.bins, np.asarray(earlier["edges"]) if earlier else None)
        scales = _scales(train_rows, earlier)
        net, warm = _network(_shape(plan, schema, scales, config), earlier, warm_start)
        if warm and earlier and earlier["vectors"] != _digest(train_rows):
            net.forget_attention()
        net.to(workers.device)
        targets = plan.targets(valid_rows)
        rows = Rows.of(train_rows, schema, scales, plan.targets(train_rows), workers.device)
        valid = Rows.of(valid_rows, schema, scales, targets, workers.device)
        history, timing = train(net, rows, valid, config, workers, progress)
        logits, seconds = predict(net, valid, plan.means)
        calibration = Calibration.of(plan, logits, targets, _usual_bias(net, train_rows))
        judged = figures(
            plan, targets, valid_rows.labels["watch_s"], calibration.probabilities(logits), seconds
        )
    notes = [
        f"{head}: labels are all alike, so it answers {plan.base_rate[head]:.4g} for every video"
        for head in PROBABILITIES
        if plan.scope[head] == CONSTANT
    ]
    report = {"scope": plan.scope, "epochs": history, "warm_start": warm, "valid": judged, "notes": notes}
    return Ranker(net.cpu(), schema, config, scales, plan, calibration, _digest(train_rows), report, timing)


def _digest(data: RankData) -> str:
    return sha256(data.pasts.vectors.tobytes()).hexdigest() if data.pasts else ""


def _usual_bias(net: RankNet, data: RankData) -> NDArray[np.float32]:
    """What the places of the rows shown add to each head's logit on average, float32[H]."""
    position = torch.tensor(data.position[data.shown], dtype=torch.int64, device=net.tops.device)
    if not len(position):
        return np.zeros(len(PROBABILITIES), np.float32)
    with torch.inference_mode():
        return np.asarray(net.position_bias(position).mean(dim=0).cpu().numpy(), np.float32)


def _scales(data: RankData, earlier: dict[str, Any] | None) -> dict[str, Scale]:
    """By block; those of the earlier ranker are kept, so that its weights still mean the same."""
    if earlier:
        return {block: Scale.from_dict(earlier["scales"][block]) for block in BLOCKS}
    return {block: Scale.of(getattr(data, block)) for block in BLOCKS}


def _shape(plan: Plan, schema: RankSchema, scales: Mapping[str, Scale], config: RankerConfig) -> Shape:
    return Shape(
        heads=len(PROBABILITIES),
        bins=len(plan.means),
        width=config.width,
        experts=config.experts,
        rank=config.rank,
        layers=config.layers,
        viewer=scales["user"].width + scales["context"].width,
        video=scales["video"].width + scales["cross"].width,
        vector=schema.vector,
        attention=config.attention,
        attention_heads=config.attention_heads,
    )


def _network(shape: Shape, earlier: dict[str, Any] | None, folder: Path | None) -> tuple[RankNet, bool]:
    """A new network, or the earlier one where its sizes are the same; says which."""
    net = RankNet(shape)
    if not (folder and earlier and earlier["shape"] == asdict(shape)):
        return net, False
    try:
        net.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
    except (OSError, EOFError, RuntimeError, KeyError, UnpicklingError) as error:
        raise CorruptData(f"{folder / WEIGHTS} can't be read: {error}; train without warm_start") from error
    return net, True


def _earlier(folder: Path | None, schema: RankSchema) -> dict[str, Any] | None:
    """Description of an earlier ranker, if it has the same inputs."""
    if folder is None or not (folder / META).is_file():
        return None
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
    except ValueError as error:
        raise CorruptData(f"{folder / META} can't be read: {error}; train without warm_start") from error
    return meta if meta.get("schema_hash") == schema.hash else None
