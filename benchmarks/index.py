"""The vector index at a size where exact search is too slow, beside exact search and a plain graph.

make bench NAME=index ARGS='--vectors 1000000'

Vectors are made as the towers make them: videos lie around their creators, creators around categories, all of
length 1, and the last place holds a long-tailed popularity. Queries are means of a few videos, as viewers
are. Isotropic noise, which has no near neighbours, would be harder and would say nothing. Each query is timed
alone on one thread, FAISS's and BLAS's; indices are built with as many as there are cores.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks._rows import row
from models.index import ExactIndex, FaissIndex, Index, overlap

WIDTH = 128
K = 500
GOAL_RECALL, GOAL_MS = 0.95, 10.0
CHUNK = 100_000
TEMPERATURE = 0.2
"""Weight of the log popularity, as the towers' default."""


@dataclass(frozen=True)
class Result:
    """Figures of one index."""

    name: str
    build_s: float
    recall: float
    p50_ms: float
    p99_ms: float
    bytes_per_vector: float


def vectors_like_towers(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32[n, WIDTH]: directions of length 1 around creators, and a place for popularity."""
    categories = rng.standard_normal((100, WIDTH - 1), np.float32)
    count = max(50, n // 50)
    creators = categories[rng.integers(0, 100, count)]
    creators += 0.8 * rng.standard_normal(creators.shape, np.float32)
    vectors = np.empty((n, WIDTH), np.float32)
    for at in range(0, n, CHUNK):
        of_creator = creators[rng.integers(0, count, min(CHUNK, n - at))]
        some = of_creator + 0.8 * rng.standard_normal(of_creator.shape, np.float32)
        vectors[at : at + CHUNK, :-1] = some / np.linalg.norm(some, axis=1, keepdims=True)
    popularity = rng.lognormal(0, 2, n)
    vectors[:, -1] = TEMPERATURE * np.log((popularity + 1) / (popularity.mean() + 1))
    return vectors


def viewers_like_towers(
    vectors: NDArray[np.float32], n: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """float32[n, WIDTH]: the direction of four videos' mean and some noise, and 1 for popularity."""
    met = vectors[rng.integers(0, len(vectors), (n, 4)), :-1].mean(axis=1)
    taste = met + 0.03 * rng.standard_normal(met.shape, np.float32)
    direction = taste / np.linalg.norm(taste, axis=1, keepdims=True)
    return np.column_stack([direction, np.ones(n, np.float32)]).astype(np.float32)


def measure(
    name: str, build: Callable[[], Index], queries: NDArray[np.float32], truth: NDArray[np.int32]
) -> Result:
    """Build on all cores, then ask one query at a time on one."""
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    start = perf_counter()
    index = build()
    build_s = perf_counter() - start
    faiss.omp_set_num_threads(1)
    taken, found = [], []
    with threadpool_limits(1, "blas"):
        for place in range(-10, len(queries)):  # the first ten warm up
            start = perf_counter()
            rows, _ = index.search(queries[max(place, 0) : max(place, 0) + 1], K)
            if place >= 0:
                taken.append(1e3 * (perf_counter() - start))
                found.append(rows[0])
    p50, p99 = np.percentile(taken, [50, 99])
    recall = overlap(truth, np.stack(found))
    return Result(name, build_s, recall, float(p50), float(p99), size_of(index) / len(index))


def size_of(index: Index) -> int:
    """Bytes on disk, which are about those in memory."""
    with TemporaryDirectory() as folder:
        index.save(Path(folder))
        return sum(file.stat().st_size for file in Path(folder).iterdir())


def plain_graph(vectors: NDArray[np.float32]) -> FaissIndex:
    """HNSW over full vectors with FAISS's own defaults."""
    graph = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors)
    return FaissIndex(graph, "HNSW32", float("nan"), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--json", type=Path, help="also write the figures to a file")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = vectors_like_towers(asked.vectors, rng)
    held_out = viewers_like_towers(vectors, asked.queries, rng)
    tuning = viewers_like_towers(vectors, 256, rng)
    exact = ExactIndex.build(vectors)
    faiss.omp_set_num_threads(1)
    truth, _ = exact.search(held_out, K)
    ours = measure("ours", lambda: FaissIndex.build(vectors, queries=tuning), held_out, truth)
    results = [
        ours,
        measure("exact, numpy", lambda: exact, held_out, truth),
        measure("HNSW, FAISS's defaults", lambda: plain_graph(vectors), held_out, truth),
    ]
    show(results, asked.vectors)
    if asked.json:
        rows = [
            row("index.recall_at_500", ours.recall, "mean", GOAL_RECALL, ours.recall >= GOAL_RECALL),
            row("index.p99", ours.p99_ms, "ms", GOAL_MS, ours.p99_ms < GOAL_MS),
            row("index.bytes_per_vector", ours.bytes_per_vector, "bytes"),
        ]
        asked.json.write_text(json.dumps(rows, indent=1))


def show(results: list[Result], vectors: int) -> None:
    table = Table(title=f"{vectors:,} × {WIDTH}, the {K} best, one thread")
    for column in ("index", "build, s", f"recall@{K}", "p50, ms", "p99, ms", "bytes per vector"):
        table.add_column(column, justify="left" if column == "index" else "right")
    for each in results:
        figures = f"{each.build_s:.0f}", f"{each.recall:.3f}", f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}"
        table.add_row(each.name, *figures, f"{each.bytes_per_vector:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
