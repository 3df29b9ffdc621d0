"""Trained towers as a folder for :class:`models.towers.Towers`, and kept to train on from."""

import json
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.catalogue import Catalogue
from models.history import Histories
from models.towers import (
    EMBEDDINGS,
    ITEMS,
    META,
    USER_INPUTS,
    USER_TOWER,
    VIDEO_INPUTS,
    VIDEO_TOWER,
    Towers,
)
from models.two_tower import Trained, TwoTowerConfig, video_batch
from models.two_tower_net import TwoTower
from models.video_inputs import TOKENS
from upnext.errors import CorruptData, MissingData

OPSET = 17
CHUNK = 8192
"""Videos that are run through their tower at once."""
TOLERANCE = 1e-4
"""How far ONNX and torch may differ in any place of a vector."""


class _NewVideos(nn.Module):
    """The video tower for videos without an embedding of their own."""

    def __init__(self, net: TwoTower) -> None:
        super().__init__()
        self.video = net.video

    def forward(
        self, tokens: Tensor, category: Tensor, creator: Tensor, duration: Tensor, age: Tensor
    ) -> tuple[Tensor, Tensor]:
        embedded = self.video.embed_content(tokens, category, creator, duration)
        return self.video.direction(embedded, age), embedded


def export(trained: Trained, folder: Path) -> Towers:
    """Write the folder and read it back; CorruptData where ONNX and torch disagree."""
    folder.mkdir(parents=True, exist_ok=True)
    config, rng = trained.config, np.random.default_rng(0)
    items, embeddings = _all_videos(trained)
    meta = {
        "width": config.width,
        "embedding": config.embedding,
        "length": config.length,
        "temperature": config.temperature,
        "as_of": trained.as_of,
        "mean_popularity": float(trained.popularity.mean()),
    }
    (folder / META).write_text(json.dumps(meta, indent=2))
    np.save(folder / ITEMS, items)
    np.save(folder / EMBEDDINGS, embeddings)
    past = _some_histories(len(items), config, rng)
    viewers = [torch.from_numpy(x) for x in (embeddings[past.rows], past.strength, past.age_s, past.mask)]
    _to_onnx(trained.net.user, viewers, USER_INPUTS, ("direction",), folder / USER_TOWER)
    videos = [torch.from_numpy(rng.integers(0, 9, shape)) for shape in ((3, TOKENS), 3, 3, 3, 3)]
    _to_onnx(_NewVideos(trained.net), videos, VIDEO_INPUTS, ("direction", "embedding"), folder / VIDEO_TOWER)
    towers = Towers.load(folder)
    with torch.no_grad():
        _require_equal("user", trained.net.user(*viewers), towers.encode(past)[:, :-1])
        feed = {name: video.numpy() for name, video in zip(VIDEO_INPUTS, videos, strict=True)}
        _require_equal("video", _NewVideos(trained.net)(*videos)[0], towers.video_tower.run(None, feed)[0])
    with_popularity = towers.with_popularity(trained.popularity)
    np.save(folder / ITEMS, with_popularity.items)
    return Towers.load(folder)


def save_state(trained: Trained, catalogue: Catalogue, file: Path) -> None:
    """Keep the weights and whose they are, for :func:`resume`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"ids": catalogue.ids.tolist(), "state": trained.net.state_dict()}, file)


def resume(file: Path, catalogue: Catalogue, config: TwoTowerConfig) -> TwoTower:
    """Towers to go on from, with the embeddings of this catalogue's videos; new videos start at zero.

    Raises
    ------
    MissingData, CorruptData
        The file is not there, can't be read, or is of towers of other widths.
    """
    if not file.is_file():
        raise MissingData(f"no towers to start from at {file}")
    net = TwoTower(len(catalogue), config.embedding, config.width - 1, config.heads)
    try:
        kept = torch.load(file, weights_only=True)
        old, state = {video: row for row, video in enumerate(kept["ids"])}, kept["state"]
        source = np.array([old.get(video, -1) for video in catalogue.ids], np.int64)
        rows = torch.zeros(len(catalogue) + 1, config.embedding)
        rows[1:][source >= 0] = state["video.row.weight"][1:][source[source >= 0]]
        net.load_state_dict({**state, "video.row.weight": rows})
    except (OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise CorruptData(f"{file} is no start for {config}: {error}") from error
    return net


@torch.no_grad()
def _all_videos(trained: Trained) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """float32[n, D] with the last place empty, and float32[n, E]."""
    n, config, video = len(trained.inputs), trained.config, trained.net.video
    items = np.zeros((n, config.width), np.float32)
    embeddings = np.zeros((n, config.embedding), np.float32)
    for at in range(0, n, CHUNK):
        rows = np.arange(at, min(at + CHUNK, n))
        embedded = video.embed(video_batch(trained.inputs, rows))
        age = torch.from_numpy(trained.inputs.age(rows, trained.as_of))
        items[rows, :-1] = video.direction(embedded, age).numpy()
        embeddings[rows] = embedded.numpy()
    return items, embeddings


def _some_histories(n_videos: int, config: TwoTowerConfig, rng: np.random.Generator) -> Histories:
    """Five viewers, the first with a full history and the last with none."""
    shape = (5, config.length)
    there = np.arange(config.length) < np.linspace(config.length, 0, 5)[:, None]
    rows = np.where(there, rng.integers(0, n_videos, shape), -1).astype(np.int32)
    strength = np.where(there, rng.uniform(-1, 3, shape), 0).astype(np.float32)
    return Histories(rows, strength, np.where(there, rng.uniform(0, 1e6, shape), 0).astype(np.float32))


def _to_onnx(
    tower: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], outputs: Sequence[str], file: Path
) -> None:
    varying = {0: "rows", 1: "length"} if tuple(names) == USER_INPUTS else {0: "rows"}
    with warnings.catch_warnings():
        # The exporter that replaces this one takes seconds more for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower.eval(),
            tuple(inputs),
            str(file),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes={name: {0: "rows"} for name in outputs} | dict.fromkeys(names, varying),
            opset_version=OPSET,
            dynamo=False,
        )


def _require_equal(name: str, of_torch: Tensor, of_onnx: NDArray[np.float32]) -> None:
    gap = float(np.abs(of_torch.numpy() - of_onnx).max())
    if not gap <= TOLERANCE:
        raise CorruptData(f"the exported {name} tower differs from the trained one by {gap:.2g}")
