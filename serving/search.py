"""Text search over titles, tags and categories: an inverted index in memory."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.catalogue import Catalogue
from serving.candidates import Candidates

WORD = re.compile(r"\w+")
IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
MOST_TOKENS = 16


def tokens(text: str) -> list[str]:
    """Lower-case words without accents; scripts that put no space between words give pairs of characters.

    >>> tokens("Crème brûlée, 10 MIN")
    ['creme', 'brulee', '10', 'min']
    """
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = unicodedata.normalize("NFC", "".join(char for char in folded if not unicodedata.combining(char)))
    found: list[str] = []
    for word in WORD.findall(plain):
        if IDEOGRAPHS.fullmatch(word) and len(word) > 1:
            found.extend(word[at : at + 2] for at in range(len(word) - 1))
        else:
            found.append(word)
    return found


class Texts(Protocol):
    """What text search is asked of."""

    def search(self, query: str, k: int) -> Candidates:
        """The k videos with most of the query's words, best first."""
        ...


@dataclass(frozen=True)
class TextIndex:
    """rows int32[p] grouped by token; bounds int64[t + 1]; weight float32[t], inverse document frequency."""

    vocabulary: dict[str, int]
    rows: NDArray[np.int32]
    bounds: NDArray[np.int64]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, catalogue: Catalogue, beside: "TextIndex | None" = None, videos: int = 0) -> Self:
        """Index the active videos of a catalogue.

        beside: another index over so many ``videos``, whose weights count for the words that it knows.
        """
        vocabulary, code, rows = _postings(catalogue)
        counts = np.bincount(code, minlength=len(vocabulary))
        bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        weight = np.log1p((videos + len(catalogue)) / np.maximum(counts, 1)).astype(np.float32)
        if beside is not None:
            known = {code: beside.vocabulary.get(word) for word, code in vocabulary.items()}
            both = {code: its for code, its in known.items() if its is not None}
            weight[list(both)] = beside.weight[list(both.values())]
        return cls(vocabulary, rows, bounds, weight)

    def search(self, query: str, k: int) -> Candidates:
        """The k videos with most of the query's words, rare words weighing more; newer first among equals."""
        known = {self.vocabulary[word] for word in tokens(query)[:MOST_TOKENS] if word in self.vocabulary}
        if not known:
            return Candidates.none()
        parts = [self.rows[self.bounds[code] : self.bounds[code + 1]] for code in known]
        weights = np.repeat([self.weight[code] for code in known], [len(part) for part in parts])
        rows, inverse = np.unique(np.concatenate(parts), return_inverse=True)
        scores = np.bincount(inverse, weights)
        return best_of(rows, scores, k)


@dataclass(frozen=True)
class TwoTexts:
    """Two indices as one: the first rows', and that of those behind them."""

    base: Texts
    late: TextIndex
    first: int
    """Row of the latter's row 0."""

    @classmethod
    def of(cls, base: Texts, known: Catalogue, late: Catalogue) -> Self:
        beside = base if isinstance(base, TextIndex) else None
        return cls(base, TextIndex.of(late, beside, len(known)), len(known))

    def search(self, query: str, k: int) -> Candidates:
        """As :meth:`TextIndex.search`."""
        old, new = self.base.search(query, k), self.late.search(query, k)
        rows = np.concatenate([old.rows, new.rows + self.first])
        return best_of(rows, np.concatenate([old.scores, new.scores]), k)


def _postings(catalogue: Catalogue) -> tuple[dict[str, int], NDArray[np.int64], NDArray[np.int32]]:
    """Tokens of the active videos, with their codes; then code int64[p] and row int32[p], sorted, none twice.

    White space parts tokens whatever is beside it, so each distinct word is taken apart once, however many
    videos have it: the loop is over the vocabulary, not over the catalogue.
    """
    words, rows = _words(catalogue)
    encoded = words.dictionary_encode()
    word = np.asarray(encoded.indices, np.int64)
    of_word = [tokens(text) for text in encoded.dictionary.to_pylist()]
    vocabulary = {
        token: code for code, token in enumerate(dict.fromkeys(t for each in of_word for t in each))
    }
    sizes = np.array([len(each) for each in of_word], np.int64)
    flat = np.array([vocabulary[token] for each in of_word for token in each], np.int64)
    repeats, starts = sizes[word], np.cumsum(sizes) - sizes
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    n = max(len(catalogue), 1)
    pairs = flat[np.repeat(starts[word], repeats) + within] * n + np.repeat(rows, repeats)
    pairs.sort()
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return vocabulary, pairs // n, (pairs % n).astype(np.int32)


def _words(catalogue: Catalogue) -> tuple[pa.Array, NDArray[np.int64]]:
    """What white space parts in titles, tags and categories of the active videos, and the row of each."""
    table, rows = catalogue.table, np.flatnonzero(catalogue.active)
    table = table.select(["title", "tags", "category"]).take(pa.array(rows)).combine_chunks()
    tags = table["tags"].combine_chunks()
    texts = [
        (table["title"].combine_chunks(), rows),
        (pc.list_flatten(tags), rows[np.asarray(pc.list_parent_indices(tags))]),
        (table["category"].combine_chunks(), rows),
    ]
    split = [(pc.utf8_split_whitespace(text), of) for text, of in texts]
    parents = [of[np.asarray(pc.list_parent_indices(lists))] for lists, of in split]
    return pa.concat_arrays([pc.list_flatten(lists) for lists, _ in split]), np.concatenate(parents)


def best_of(rows: NDArray[np.integer], scores: NDArray[Any], k: int) -> Candidates:
    """The k best, newer first among equals."""
    best = np.lexsort((-rows, -scores))[:k]
    return Candidates.of(rows[best], scores[best].astype(np.float32))
