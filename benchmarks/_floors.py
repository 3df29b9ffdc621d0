"""What the libraries alone take for one home request: the same searches and networks, with nothing around."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import orjson

from models.bundle import Bundle
from models.history import Histories
from models.index import Index
from models.rank_data import Compared

CANDIDATES, FOUND, LENGTH, ITEMS = 1_000, 300, 50, 30
TIMES = 200


def floors(bundle: Bundle) -> dict[str, float]:
    """Median milliseconds by part of a request."""
    rng = np.random.default_rng(9)
    videos = len(bundle.catalogue)
    schema = bundle.scorer.schema
    rows = rng.integers(0, videos, (TIMES, CANDIDATES), dtype=np.int32)
    past = Histories(
        rng.integers(0, videos, (1, LENGTH), dtype=np.int32),
        np.ones((1, LENGTH), np.float32),
        np.linspace(0, 1e5, LENGTH, dtype=np.float32)[None],
    )
    towers, als = bundle.towers.encode(past), bundle.als.fold_in(past)
    blocks = {name: len(schema.block(name)) for name in ("user", "context", "video", "cross")}
    user, context = (np.zeros(blocks[name], np.float32) for name in ("user", "context"))
    video, cross = (np.zeros((CANDIDATES, blocks[name]), np.float32) for name in ("video", "cross"))
    compared = Compared.of(bundle.towers.embeddings, rows[0], past) if schema.vector else None
    answer = {"items": [{"video_id": "v00000000~0", "title": "t" * 40, "score": 0.5}] * ITEMS}
    parts: dict[str, Callable[[int], object]] = {
        "user tower": lambda _: bundle.towers.encode(past),
        "search by the towers": lambda _: _search(bundle.tower_index, towers),
        "search by ALS": lambda _: _search(bundle.als_index, als),
        "gather of features": lambda number: bundle.video_features[rows[number]],
        "ranker": lambda _: bundle.scorer.score(user, video, context, cross, compared),
        "JSON of the answer": lambda _: orjson.dumps(answer),
    }
    return {name: _median(part) for name, part in parts.items()}


def _search(index: Index, query: np.ndarray) -> object:
    return index.search(query, FOUND)


def _median(part: Callable[[int], object]) -> float:
    taken = []
    for number in range(TIMES):
        start = perf_counter()
        part(number)
        taken.append(1e3 * (perf_counter() - start))
    return float(np.median(taken[TIMES // 10 :]))
