"""Trained towers as a folder for :class:`models.towers.Towers`, and kept to train on from."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.catalogue import Catalogue
from models.columns import codes
from models.files import BROKEN, arrays_of
from models.history import Histories
from models.onnx_export import write_onnx
from models.towers import (
    EMBEDDINGS,
    ITEMS,
    META,
    PRIOR,
    STATE,
    USER_INPUTS,
    USER_TOWER,
    VIDEO_INPUTS,
    VIDEO_TOWER,
    Towers,
)
from models.two_tower import Trained, TwoTowerConfig, video_batch
from models.two_tower_net import TwoTower
from models.video_inputs import TOKENS, VISUAL
from models.viewer_inputs import CONTEXT, DEVICE_BUCKETS, HOURS, REGION_BUCKETS
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
        self,
        tokens: Tensor,
        category: Tensor,
        creator: Tensor,
        duration: Tensor,
        visual: Tensor,
        age: Tensor,
    ) -> tuple[Tensor, Tensor]:
        embedded = self.video.embed_content(tokens, category, creator, duration, visual)
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
        "popularity_half_life_h": config.popularity_half_life_h,
        "usual_age": trained.usual_age,
    }
    (folder / META).write_text(json.dumps(meta, indent=2))
    np.save(folder / ITEMS, items)
    np.save(folder / EMBEDDINGS, embeddings)
    trained.prior.save(folder / PRIOR)
    past = _some_histories(len(items), config, rng)
    context = rng.integers(0, (HOURS, DEVICE_BUCKETS, REGION_BUCKETS), (len(past), CONTEXT))
    about = (embeddings[past.rows], past.strength, past.age_s, past.mask, context)
    viewers = [torch.from_numpy(x) for x in about]
    _to_onnx(trained.net.user, viewers, USER_INPUTS, ("direction",), folder / USER_TOWER)
    drawn = [torch.from_numpy(rng.integers(0, 9, shape)) for shape in ((3, TOKENS), 3, 3, 3, 3)]
    videos = [*drawn[:-1], torch.from_numpy(rng.normal(size=(3, VISUAL)).astype(np.float32)), drawn[-1]]
    _to_onnx(_NewVideos(trained.net), videos, VIDEO_INPUTS, ("direction", "embedding"), folder / VIDEO_TOWER)
    towers = Towers.load(folder)
    with torch.no_grad():
        _require_equal("user", trained.net.user(*viewers), towers.encode(past, context)[:, :-1])
        feed = {name: video.numpy() for name, video in zip(VIDEO_INPUTS, videos, strict=True)}
        _require_equal("video", _NewVideos(trained.net)(*videos)[0], towers.video_tower.run(None, feed)[0])
    with_popularity = towers.with_popularity(trained.popularity)
    np.save(folder / ITEMS, with_popularity.items)
    return Towers.load(folder)


def save_state(trained: Trained, catalogue: Catalogue, folder: Path) -> None:
    """Keep the weights beside the export, and whose they are, for :func:`resume`."""
    weights = {name: weight.numpy() for name, weight in trained.net.state_dict().items()}
    ids = np.asarray(catalogue.ids, np.str_)
    np.savez(folder / STATE, ids=ids, as_of=np.int64(trained.as_of), **weights)


def resume(folder: Path, catalogue: Catalogue, config: TwoTowerConfig, before: int | None = None) -> TwoTower:
    """Towers to go on from, with the embeddings of this catalogue's videos; new videos start at zero.

    before: microseconds; towers that have learned from this time or later are none to go on from.

    Raises
    ------
    MissingData, CorruptData
        No weights were kept, they can't be read, or are of other widths or a later time.
    """
    file = folder / STATE
    if not file.is_file():
        raise MissingData(f"no towers to start from at {file}")
    net = TwoTower(len(catalogue), config.embedding, config.width - 1, config.heads)
    try:
        with arrays_of(file) as kept:
            state = {
                name: torch.from_numpy(kept[name]) for name in kept.files if name not in ("ids", "as_of")
            }
            ids, as_of = kept["ids"], int(kept["as_of"])
        source = codes(pa.array(catalogue.ids, pa.string()), ids.tolist())
        rows = torch.zeros(len(catalogue) + 1, config.embedding)
        rows[1:][source >= 0] = state["video.row.weight"][1:][source[source >= 0]]
        net.load_state_dict({**state, "video.row.weight": rows})
    except (*BROKEN, IndexError) as error:
        raise CorruptData(f"{file} is no start for {config}: {error}") from error
    if before is not None and as_of >= before:
        raise CorruptData(f"{file} has learned from what happened at {as_of}, not before {before}")
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
        known = video.row.weight[rows + 1].any(dim=1).numpy()
        age = np.where(known, trained.inputs.age(rows, trained.as_of), trained.usual_age)
        items[rows, :-1] = video.direction(embedded, torch.from_numpy(age)).numpy()
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
    axes = {0: "rows", 1: "length"} if tuple(names) == USER_INPUTS else {0: "rows"}
    varying = {name: {0: "rows"} for name in outputs} | dict.fromkeys(names, axes)
    write_onnx(tower, dict(zip(names, inputs, strict=True)), outputs, varying, file, OPSET)


def _require_equal(name: str, of_torch: Tensor, of_onnx: NDArray[np.float32]) -> None:
    gap = float(np.abs(of_torch.numpy() - of_onnx).max())
    if not gap <= TOLERANCE:
        raise CorruptData(f"the exported {name} tower differs from the trained one by {gap:.2g}")
