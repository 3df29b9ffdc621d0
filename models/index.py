"""Nearest vectors by inner product: brute force as the oracle, FAISS for catalogues that outgrow it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from upnext.errors import CorruptData, EmptyData, MissingData

if TYPE_CHECKING:
    import faiss

CHUNK = 1 << 24
"""Scores held at once by exact search; bounds its memory to 64 MiB."""
FLAT_BELOW = 50_000
"""Vectors up to which brute force answers within a millisecond or two on one core."""
HNSW_BELOW = 2_000_000
"""Vectors up to which a graph over full vectors is affordable: about 800 bytes a vector."""
PROBES = 64
"""Inverted lists that a search looks into."""
WIDTHS = {"efSearch": 256, "quantizer_efSearch": 128, "k_factor_rf": 8}
"""Nodes that a graph search keeps, the same for finding lists, and candidates refined per result."""
SAMPLE = 256
"""Queries that the recall is measured with when an index is built."""


class Index(Protocol):
    """What retrieval asks of an index."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k rows of largest inner product with each query.

        queries: float32[B, d]. Returns int32[B, k] and float32[B, k], best first; -1 and -inf fill up where
        there are fewer than k vectors.
        """
        ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class ExactIndex:
    """Brute force over vectors float32[n, d]."""

    vectors: NDArray[np.float32]

    @classmethod
    def build(cls, vectors: NDArray[np.float32]) -> Self:
        return cls(_checked(vectors))

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As :meth:`Index.search`; ties go to the lower row."""
        queries = _queries(queries, self.vectors.shape[1], k)
        rows = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        found = min(k, len(self))
        step = max(1, CHUNK // len(self))
        for at in range(0, len(queries), step):
            part = slice(at, at + step)
            product = queries[part] @ self.vectors.T
            best = top_k(product, found)
            rows[part, :found] = best
            scores[part, :found] = np.take_along_axis(product, best, axis=1)
        return rows, scores

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The vectors are memory-mapped."""
        if not (folder / "vectors.npy").is_file():
            raise MissingData(f"no exact index in {folder}")
        try:
            return cls(np.load(folder / "vectors.npy", mmap_mode="r"))
        except (OSError, EOFError, ValueError) as error:
            raise CorruptData(f"the index in {folder} can't be read: {error}") from error


@dataclass(frozen=True)
class FaissIndex:
    """A FAISS index with what it was measured to find.

    recall: share of the exact 100 nearest that it found for :data:`SAMPLE` of its own vectors as queries.
    """

    index: faiss.Index
    factory: str
    recall: float

    @classmethod
    def build(cls, vectors: NDArray[np.float32], factory: str | None = None, seed: int = 0) -> Self:
        """Train, fill and measure; the factory string follows from the number of vectors if not given."""
        import faiss

        vectors = _checked(vectors)
        factory = factory or factory_for(len(vectors))
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        _tune(index)
        index.train(vectors)
        index.add(vectors)
        built = cls(index, factory, 0.0)
        rng = np.random.default_rng(seed)
        sample = vectors[rng.choice(len(vectors), min(SAMPLE, len(vectors)), replace=False)]
        return cls(index, factory, recall_against(ExactIndex(vectors), built, sample))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """As :meth:`Index.search`."""
        scores, rows = self.index.search(_queries(queries, self.index.d, k), k)
        return rows.astype(np.int32), np.where(rows >= 0, scores, -np.inf).astype(np.float32)

    def save(self, folder: Path) -> None:
        import faiss

        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self.index, str(folder / "index.faiss"))
        meta = {"factory": self.factory, "recall": self.recall}
        (folder / "index.json").write_text(json.dumps(meta, indent=2))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Memory-mapped where FAISS can; it reads the rest into memory."""
        import faiss

        if not (folder / "index.json").is_file():
            raise MissingData(f"no FAISS index in {folder}")
        try:
            meta = json.loads((folder / "index.json").read_text())
            index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
            _tune(index)
            return cls(index, str(meta["factory"]), float(meta["recall"]))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise CorruptData(f"the index in {folder} can't be read: {error}") from error


def load_index(folder: Path) -> ExactIndex | FaissIndex:
    """Whichever index a folder holds."""
    return FaissIndex.load(folder) if (folder / "index.json").is_file() else ExactIndex.load(folder)


def build_index(vectors: NDArray[np.float32]) -> ExactIndex | FaissIndex:
    """Brute force below :data:`FLAT_BELOW` vectors, FAISS above."""
    return ExactIndex.build(vectors) if len(vectors) < FLAT_BELOW else FaissIndex.build(vectors)


def factory_for(n: int) -> str:
    """FAISS factory string for n vectors: flat, a graph, or inverted lists of codes that are refined."""
    if n < FLAT_BELOW:
        return "Flat"
    if n < HNSW_BELOW:
        return "HNSW32,SQfp16"
    lists = 1 << int(np.ceil(np.log2(4 * np.sqrt(n))))
    return f"IVF{lists}_HNSW32,PQ64x4fsr,Refine(SQfp16)"


def recall_against(exact: ExactIndex, index: Index, queries: NDArray[np.float32], k: int = 100) -> float:
    """Share of the exact k nearest that an index finds, over all queries."""
    k = min(k, len(exact))
    truth, _ = exact.search(queries, k)
    found, _ = index.search(queries, k)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(truth, found, strict=True)]))


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """int64[B, k], columns of the k largest of each row, best first, ties by column; k at most the width."""
    if k < scores.shape[1]:
        near = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        near = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def _tune(index: faiss.Index) -> None:
    """Set search widths, which FAISS does not keep with every index."""
    import faiss

    lists = faiss.try_extract_index_ivf(index)
    # Probing more lists than there are spoils the tables of residual codes, and most of the recall with them.
    probes = min(PROBES, lists.nlist) if lists else 1
    for name, value in (*WIDTHS.items(), ("nprobe", probes)):
        try:
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        except RuntimeError:
            continue  # this kind of index has no such parameter


def _checked(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(f"vectors are {vectors.dtype}{vectors.shape}, not float32[n, d]")
    if not len(vectors):
        raise EmptyData("no vectors to build an index of")
    if not np.isfinite(vectors).all():
        raise CorruptData("vectors hold nan or inf: look at the training run that made them")
    return np.ascontiguousarray(vectors)


def _queries(queries: NDArray[Any], width: int, k: int) -> NDArray[np.float32]:
    if queries.ndim != 2 or queries.shape[1] != width:
        raise ValueError(f"queries are {queries.shape}, not [B, {width}]")
    if k < 1:
        raise ValueError(f"k is {k}, not above 0")
    return np.ascontiguousarray(queries, dtype=np.float32)
