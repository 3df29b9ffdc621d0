"""Nearest vectors by inner product: brute force as the oracle, FAISS for catalogues that outgrow it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.files import reading
from upnext.errors import CorruptData, EmptyData

if TYPE_CHECKING:
    import faiss

CHUNK = 1 << 24
"""Scores held at once by exact search; bounds its memory to 64 MiB."""
FLAT_BELOW = 50_000
"""Vectors up to which brute force answers within a millisecond or two on one core."""
SQ8_BELOW = 20_000_000
"""Vectors up to which a byte per place, in inverted lists, is affordable: about 140 bytes a vector."""
PER_LIST = 40
"""Vectors that each inverted list's centre is learned from: FAISS asks for 39, and time grows with them."""
PROBES = 32
"""Inverted lists that a search looks into at least."""
WIDTHS = {"efSearch": 256, "quantizer_efSearch": 256, "k_factor_rf": 8}
"""Nodes that a graph search keeps, the same for finding lists, and candidates refined per result."""
SAMPLE = 256
"""Queries that the recall is measured with when an index is built."""
RECALL_AT = 500
"""Results that count when it is measured: what a retriever asks for."""
WANTED = 0.97
"""Recall for which a new index is given more lists to look into."""
NEAR = 16
"""The least number of lists for it is found to one part in so many."""


class Index(Protocol):
    """What retrieval asks of an index."""

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k rows of largest inner product with each query.

        queries: float32[B, d]. Returns int32[B, k] and float32[B, k], best first; -1 and -inf fill up where
        there are fewer than k vectors.
        """
        ...

    def __len__(self) -> int: ...

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
        with reading("exact index", folder, "vectors.npy"):
            return cls(np.load(folder / "vectors.npy", mmap_mode="r"))


@dataclass(frozen=True)
class FaissIndex:
    """A FAISS index with what it was measured to find.

    recall: share of the exact nearest :data:`RECALL_AT` that it found when it was built; probes: inverted
    lists that each search looks into, where it has any.
    """

    index: faiss.Index
    factory: str
    recall: float
    probes: int

    @classmethod
    def build(
        cls,
        vectors: NDArray[np.float32],
        factory: str | None = None,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
    ) -> Self:
        """Train, fill, measure, and look into more lists until :data:`WANTED` is reached.

        factory: FAISS's string; None: by the number of vectors. queries: float32[B, d], such as viewers ask,
        to measure with, but zeros, which ask for nothing; None: some of the vectors, which flatters.
        """
        import faiss

        vectors = _checked(vectors)
        factory = factory or factory_for(len(vectors))
        rng = np.random.default_rng(seed)
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        lists = faiss.try_extract_index_ivf(index)
        enough = len(vectors) if lists is None else PER_LIST * lists.nlist
        index.train(vectors[np.sort(rng.permutation(len(vectors))[:enough])])
        index.add(vectors)
        if queries is not None:  # of a viewer without a past all vectors are as near
            queries = queries[queries.any(axis=1)]
        if queries is None or not len(queries):
            queries = vectors[rng.permutation(len(vectors))[:SAMPLE]]
        return cls._measured(index, factory, ExactIndex(vectors), queries[:SAMPLE])

    @classmethod
    def _measured(
        cls, index: faiss.Index, factory: str, exact: ExactIndex, queries: NDArray[np.float32]
    ) -> Self:
        import faiss

        lists = faiss.try_extract_index_ivf(index)
        most = lists.nlist if lists else 1
        k = min(RECALL_AT, len(exact))
        truth, _ = exact.search(queries, k)

        def found(probes: int) -> float:
            _tune(index, probes)
            return overlap(truth, cls(index, factory, 0.0, probes).search(queries, k)[0])

        few, probes = 0, min(PROBES, most)
        recall = found(probes)
        while recall < WANTED and probes < most:
            few, probes = probes, min(2 * probes, most)
            recall = found(probes)
        while few and probes - few > probes // NEAR:  # a search takes as long as it probes
            middle = (few + probes) // 2
            reached = found(middle)
            if reached >= WANTED:
                probes, recall = middle, reached
            else:
                few = middle
        _tune(index, probes)
        return cls(index, factory, recall, probes)

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
        meta = {"factory": self.factory, "recall": self.recall, "probes": self.probes}
        (folder / "index.json").write_text(json.dumps(meta, indent=2))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Memory-mapped where FAISS can; it reads the rest into memory."""
        import faiss

        with reading("FAISS index", folder, "index.json", "index.faiss"):
            meta = json.loads((folder / "index.json").read_text())
            index = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
            found = cls(index, str(meta["factory"]), float(meta["recall"]), int(meta["probes"]))
            _tune(index, found.probes)
            return found


def load_index(folder: Path) -> ExactIndex | FaissIndex:
    """Whichever index a folder holds."""
    return FaissIndex.load(folder) if (folder / "index.json").is_file() else ExactIndex.load(folder)


def build_index(
    vectors: NDArray[np.float32], queries: NDArray[np.float32] | None = None
) -> ExactIndex | FaissIndex:
    """Brute force below :data:`FLAT_BELOW` vectors, FAISS above, measured with ``queries``."""
    if len(vectors) < FLAT_BELOW:
        return ExactIndex.build(vectors)
    return FaissIndex.build(vectors, queries=queries)


def factory_for(n: int) -> str:
    """FAISS factory string for n vectors: flat, inverted lists of bytes, or of 4-bit codes that are refined.

    Figures of these and of graphs are in docs/LOG.md and from benchmarks/index.py.
    """
    if n < FLAT_BELOW:
        return "Flat"
    lists = 1 << round(np.log2(4 * np.sqrt(n)))
    return f"IVF{lists},SQ8" if n < SQ8_BELOW else f"IVF{lists}_HNSW32,PQ64x4fsr,Refine(SQ8)"


def recall_against(exact: ExactIndex, index: Index, queries: NDArray[np.float32], k: int = 100) -> float:
    """Share of the exact k nearest that an index finds, over all queries."""
    k = min(k, len(exact))
    truth, _ = exact.search(queries, k)
    return overlap(truth, index.search(queries, k)[0])


def overlap(truth: NDArray[np.int32], found: NDArray[np.int32]) -> float:
    """Share of rows int32[B, k] that are also in the same line of ``found``."""
    shares = [len(np.intersect1d(a, b)) / len(a) for a, b in zip(truth, found, strict=True)]
    return float(np.mean(shares))


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """int64[B, k], columns of the k largest of each row, best first, ties by column; k at most the width."""
    if k < scores.shape[1]:
        near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        worst = np.take_along_axis(scores, near, axis=1).min(axis=1, keepdims=True)
        cut = np.count_nonzero(scores >= worst, axis=1) > k  # among equals argpartition takes any
        near[cut] = np.argsort(-scores[cut], axis=1, kind="stable")[:, :k]
        near.sort(axis=1)
    else:
        near = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def _tune(index: faiss.Index, probes: int) -> None:
    """Set search widths, which FAISS does not keep with every index.

    More probes than there are lists spoil the tables of residual codes, and most of the recall with them.
    """
    import faiss

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
