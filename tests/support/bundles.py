"""A whole release bundle without training: random vectors, and a network of one layer made by hand."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from feature_repo.context import context_layout
from feature_repo.layout import layouts
from feature_repo.request import CONTEXT, ranker_schema
from feature_repo.specs import VIDEO
from models.als import AlsConfig, AlsModel
from models.bundle import Bundle, assemble
from models.catalogue import Catalogue
from models.neighbours import Neighbours
from models.popularity import Popularity
from models.video_inputs import CATEGORY_BUCKETS, bucket
from tests.support.videos import NOW, catalogue_of

VIDEOS, WIDTH = 120, 8
HEADS = ("click", "long_view", "like", "share", "not_interested", "relevance", "watch_s")
LAYOUTS = layouts()
LIKED = {
    "als_score": 1.0,
    "als_similarity_max": 3.0,
    "creator_share": 2.0,
    "category_share": 2.0,
    "popularity": 0.3,
}
"""What the hand-made ranker goes by: input -> weight."""
AS_OF = datetime.fromtimestamp(NOW / 1e6, UTC)


def tiny_catalogue(videos=VIDEOS) -> Catalogue:
    """Videos of 6 categories and 15 creators, two a day, the last ones of the day of ``NOW``."""
    return catalogue_of(
        videos,
        age_days=[(videos - i) / 2 for i in range(videos)],
        title=[f"Clip {i} about topic{i % 6}" for i in range(videos)],
        category=[f"topic{i % 6}" for i in range(videos)],
        creator_id=[f"c{i % 15}" for i in range(videos)],
        language=["en" if i % 2 else "sv" for i in range(videos)],
    )


def tiny_bundle(folder, videos=VIDEOS, meta=None, seed=0, catalogue=None) -> Bundle:
    """Write a bundle below ``folder`` and load it. Vectors follow the categories, so that tastes show.

    Of a catalogue that is given, the vectors follow nothing.
    """
    rng = np.random.default_rng(seed)
    parts = folder / f"parts-{seed}"
    parts.mkdir(parents=True)
    catalogue = catalogue or tiny_catalogue(videos)
    videos = len(catalogue)
    vectors = np.eye(6, WIDTH, dtype=np.float32)[np.arange(videos) % 6]
    vectors += rng.normal(0, 0.2, vectors.shape).astype(np.float32)
    catalogue.save(parts / "catalogue.parquet")
    counts = rng.gamma(1.0, 10.0, (3, videos)).astype(np.float32)
    counts[0] = counts.sum(axis=0)
    Popularity(counts, ("NO", "SE"), NOW).save(parts / "popularity.npz")
    AlsModel(vectors, np.full(videos, 10, np.float32), 1.0, AlsConfig(factors=WIDTH)).save(parts / "als")
    save_towers(parts / "towers", vectors)
    save_neighbours(parts / "neighbours", vectors)
    save_ranker(parts / "ranker")
    features = rng.random((videos, LAYOUTS[VIDEO.name].width)).astype(np.float16).astype(np.float32)
    np.save(parts / "video_features.npy", features)
    layouts = {view: json.loads(layout.to_json()) for view, layout in LAYOUTS.items()}
    about = {"as_of": AS_OF.isoformat(), "layouts": layouts} | (meta or {})
    names = {path.name: path for path in parts.iterdir()}
    return Bundle.load(assemble(names, folder / f"bundle-{seed}", about))


def save_towers(folder, vectors):
    """Towers whose user vector is the sum of the past's item vectors, each times its strength."""
    folder.mkdir(parents=True)
    np.save(folder / "item_vectors.npy", np.pad(vectors, ((0, 0), (0, 1))))  # all alike popular
    np.save(folder / "embeddings.npy", vectors)
    meta = {"width": vectors.shape[1] + 1, "length": 50, "temperature": 0.1, "mean_popularity": 1.0}
    (folder / "meta.json").write_text(json.dumps(meta))
    shapes = {
        "past": ["B", "L", vectors.shape[1]],
        "strength": ["B", "L"],
        "age_s": ["B", "L"],
        "mask": ["B", "L"],
    }
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.BOOL if name == "mask" else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["B", vectors.shape[1]])]
    axes = {"last": np.asarray([2], np.int64), "entries": np.asarray([1], np.int64)}
    nodes = [
        helper.make_node("Unsqueeze", ["strength", "last"], ["weights"]),
        helper.make_node("Mul", ["past", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "entries"], ["vector"], keepdims=0),
    ]
    save_graph(nodes, "user_tower", inputs, outputs, axes, folder / "user_tower.onnx")
    save_video_tower(folder / "video_tower.onnx", vectors.shape[1])


def save_video_tower(path, width):
    """A tower that knows of a video its category alone: topic3's direction is the fourth axis."""
    table = np.zeros((CATEGORY_BUCKETS, width), np.float32)
    table[[bucket(f"topic{topic}", CATEGORY_BUCKETS) for topic in range(6)]] = np.eye(6, width)
    inputs = [helper.make_tensor_value_info("category", TensorProto.INT64, ["B"])]
    names = ("direction", "embedding")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in names]
    nodes = [helper.make_node("Gather", ["table", "category"], [name]) for name in names]
    save_graph(nodes, "video_tower", inputs, outputs, {"table": table}, path)


def save_neighbours(folder, vectors, k=10):
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    rows = np.argsort(-similar, axis=1)[:, :k].astype(np.int32)
    scores = np.clip(np.take_along_axis(similar, rows, axis=1), 0.01, 1).astype(np.float32)
    Neighbours(rows, scores).save(folder)


def save_ranker(folder):
    """A network of one layer: every head is a sigmoid of the same weighted cross features, nan taken as 0."""
    folder.mkdir(parents=True)
    schema = ranker_schema(LAYOUTS | {CONTEXT: context_layout(["home"], ["phone"])})
    weights = np.asarray([[LIKED.get(name, 0.0)] * len(HEADS) for name in schema.cross], np.float32)
    scale = np.asarray([1.0] * 4 + [0.01, 1.0, 30.0], np.float32)
    nodes = [
        helper.make_node("IsNaN", ["cross"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "cross"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["chances"]),
        helper.make_node("Mul", ["chances", "scale"], ["scores"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_rows", len(schema.block(name))])
        for name in ("user", "context", "video", "cross")
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", len(HEADS)])]
    constants = {"zero": np.float32(0), "weights": weights, "scale": scale}
    save_graph(nodes, "ranker", inputs, outputs, constants, folder / "ranker.onnx")
    (folder / "ranker.json").write_text(json.dumps({"schema": schema.to_dict(), "heads": list(HEADS)}))


def save_graph(nodes, name, inputs, outputs, constants, path):
    held = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def stamped(days: float) -> datetime:
    """A time so many days after the bundle's."""
    return AS_OF + timedelta(days=days)
