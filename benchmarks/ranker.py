"""The ranker's request and training: milliseconds of 1,000 candidates on one core, and samples per second.

make bench NAME=ranker         (made-up inputs; widths are arguments)

Peers in the same run: the network as it was trained, with the viewer's columns repeated for every candidate,
against the factored graph that serves, in fp32 and int8; one training process against two.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

from benchmarks._rows import Row, row
from models import ranker
from models.history import Histories
from models.rank_data import COMPARED, Compared, Pasts, RankData, RankSchema
from models.rank_net import Batch, RankNet
from models.rank_precision import INT8, quantise
from models.rank_train import RankerConfig, Timing
from models.ranker_ddp import fit_in_processes
from models.scorer import MODEL, Scorer

CANDIDATES, ENTRIES, VECTOR = 1_000, 50, 64
GOAL_MS = 2.0
RUNS = 400


def rows_of(schema: RankSchema, count: int, per_viewer: int, seed: int = 0) -> RankData:
    """Made-up rows, some inputs unknown, ``per_viewer`` of each viewer; clicks follow the first inputs."""
    rng = np.random.default_rng(seed)
    viewer = (np.arange(count) // per_viewer).astype(np.int32)
    viewers = int(viewer[-1]) + 1
    blocks = {}
    for block, known_once in (("user", True), ("context", True), ("video", False), ("cross", False)):
        values = rng.normal(size=(viewers if known_once else count, len(schema.block(block))))
        values[:, ::7][rng.random(values[:, ::7].shape) < 0.1] = np.nan
        blocks[block] = (values[viewer] if known_once else values).astype(np.float32)
    logit = np.nan_to_num(blocks["user"][:, 1] * blocks["video"][:, 1] + blocks["cross"][:, 1])
    click = (rng.random(count) < 1 / (1 + np.exp(1 - logit))).astype(np.float32)
    names = ("click", "long_view", "like", "share", "not_interested")
    labels = {name: click * (rng.random(count) < 1 / (place + 1)) for place, name in enumerate(names)}
    labels = {name: label.astype(np.float32) for name, label in labels.items()}
    labels["watch_s"] = (click * rng.gamma(1, 20, count)).astype(np.float32)
    vectors = rng.normal(size=(10_000, schema.vector)).astype(np.float32) / 8
    past = Histories(
        rng.integers(0, len(vectors), (viewers, ENTRIES)).astype(np.int32),
        rng.random((viewers, ENTRIES), np.float32),
        np.sort(rng.gamma(1, 1e5, (viewers, ENTRIES)).astype(np.float32)),
    )
    video = rng.integers(0, len(vectors), count).astype(np.int32)
    place = (np.arange(count) % per_viewer).astype(np.int32)
    shown = np.ones(count, np.bool_)
    return RankData(
        **blocks, position=place, shown=shown, labels=labels, pasts=Pasts(vectors, past, viewer, video)
    )


class Unfactored(torch.nn.Module):
    """The trained network as it is: every input of every candidate goes through every layer."""

    def __init__(self, net: RankNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        user, context, video, cross, candidate, past, strength, age_s = inputs
        count = video.shape[0]
        joined = torch.cat([user.expand(count, -1), context.expand(count, -1), video, cross], dim=1)
        slot = torch.arange(count)
        known = torch.ones_like(strength[None], dtype=torch.bool)
        batch = Batch(joined, candidate, slot * 0, slot, past[None], strength[None], age_s[None], known)
        logits, bins = self.net(batch)
        return torch.cat([logits.sigmoid(), bins.softmax(dim=1)], dim=1)


def requests(folder: Path, model: ranker.Ranker, rows: RankData) -> dict[str, np.ndarray]:
    """Milliseconds of each request by graph; the graphs take turns, on one thread."""
    quantise(folder / MODEL, folder / INT8)
    scorer = Scorer.load(folder)
    compared = Compared.of(rows.pasts.vectors, rows.pasts.video, rows.pasts.histories)  # type: ignore[union-attr]
    blocks = {
        block: scorer.prepared(block, getattr(rows, block)) for block in ("user", "context", "video", "cross")
    }
    feed = {block: values[:1] if block in ("user", "context") else values for block, values in blocks.items()}
    feed |= {name: getattr(compared, name) for name in COMPARED}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in models.rank_export; its sizes are those of this one request
        torch.onnx.export(
            Unfactored(model.net),
            tuple(torch.from_numpy(values) for values in feed.values()),
            str(folder / "unfactored.onnx"),
            input_names=list(feed),
            opset_version=18,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graphs = {"unfactored fp32 (peer)": "unfactored.onnx", "factored fp32": MODEL, "factored int8": INT8}
    calls: dict[str, Callable[[], object]] = {}
    for name, file in graphs.items():
        session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        calls[name] = lambda session=session: session.run(None, feed)
    user, context = rows.user[0], rows.context[0]
    calls["factored fp32, with its inputs' normalisation"] = lambda: scorer.score(
        user, rows.video, context, rows.cross, compared
    )
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(-RUNS // 10, RUNS):
        for name, call in calls.items():
            start = perf_counter()
            call()
            if run >= 0:
                taken[name].append(1e3 * (perf_counter() - start))
    return {name: np.asarray(each) for name, each in taken.items()}


def training(schema: RankSchema, count: int) -> dict[str, Timing]:
    """What one epoch takes in one process and in two."""
    train, valid = rows_of(schema, count, 5, 1), rows_of(schema, 1_000, 5, 2)
    config = RankerConfig(epochs=1)
    out = {"1 process": ranker.fit(train, valid, schema, config).timing}
    with TemporaryDirectory() as folder:
        both = replace(config, processes=2)
        out["2 processes"] = fit_in_processes(train, valid, schema, both, None, Path(folder))[1]
    return out


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", type=Path, help="write the figures here")
    options.add_argument("--widths", type=int, nargs=4, default=(45, 25, 73, 57), metavar="N",
                         help="inputs: user, context, video, cross; by default KuaiRand's")  # fmt: skip
    options.add_argument("--rows", type=int, default=60_000, help="training rows")
    given = options.parse_args()
    user, context, video, cross = (
        tuple(f"{name}{place}" for place in range(width))
        for name, width in zip("ucvx", given.widths, strict=True)
    )
    schema = RankSchema(user=user, video=video, context=context, cross=cross, vector=VECTOR)
    model = ranker.fit(rows_of(schema, 4_000, 5), rows_of(schema, 500, 5), schema, RankerConfig(epochs=1))
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        taken = requests(Path(folder), model, rows_of(schema, CANDIDATES, CANDIDATES, 3))
    timings = training(schema, given.rows)
    show(taken, timings, given.widths)
    if given.json:
        given.json.write_text(json.dumps(figures(taken, timings), indent=1))


def show(taken: dict[str, np.ndarray], timings: dict[str, Timing], widths: tuple[int, ...]) -> None:
    console, sizes = Console(), ", ".join(map(str, widths))
    requested = Table("", "p50 ms", "p99 ms", title=f"{CANDIDATES:,} candidates, one core; inputs {sizes}")
    for name, times in taken.items():
        requested.add_row(name, *(f"{np.percentile(times, share):.2f}" for share in (50, 99)))
    trained = Table("", "samples/s", "waiting for data", title="training")
    for name, each in timings.items():
        trained.add_row(name, f"{each.rows / each.seconds:,.0f}", f"{each.waiting_s / each.seconds:.1%}")
    console.print(requested)
    console.print(trained)


def figures(taken: dict[str, np.ndarray], timings: dict[str, Timing]) -> list[Row]:
    """What is claimed, with its goal and whether it holds."""
    fp32, int8 = (float(np.median(taken[f"factored {precision}"])) for precision in ("fp32", "int8"))
    both = timings["2 processes"]
    return [
        row("rank_p50_fp32", fp32, "ms", GOAL_MS, fp32 <= GOAL_MS),
        row("rank_p50_int8", int8, "ms", GOAL_MS, int8 <= GOAL_MS),
        row("train_2_cores", both.rows / both.seconds, "samples/s"),
        row("train_waiting", both.waiting_s / both.seconds, "share"),
    ]


if __name__ == "__main__":
    main()
