"""How far a column's distribution has moved between two windows: the population stability index."""

import numpy as np
from numpy.typing import NDArray

BINS = 10
MOST = 20_000
"""Rows of a window that are looked at, evenly spaced; PSI of ten bins has settled by then."""


def psi(before: NDArray[np.floating], now: NDArray[np.floating]) -> NDArray[np.float64]:
    """Σ (p - q) ln(p / q) over BINS quantiles of ``before``, per column; float64[d].

    p, q: shares of ``now`` and ``before`` in a bin, half a row added to each. Missing values are a bin of
    their own. Below 0.1 nothing has happened, above 0.25 much has (Siddiqi, Credit Risk Scorecards, 2006).
    """
    return np.array([_psi(_spread(one), _spread(two)) for one, two in zip(before.T, now.T, strict=True)])


def _psi(before: NDArray[np.floating], now: NDArray[np.floating]) -> float:
    known = before[np.isfinite(before)]
    inner = np.arange(1, BINS) / BINS
    edges = np.quantile(known, inner, method="nearest") if len(known) else np.zeros(0, before.dtype)
    # A value that is a quantile itself, such as the zero of a count, is a bin of its own.
    edges = np.unique([np.nextafter(edges, -np.inf, dtype=edges.dtype), edges])
    q, p = _shares(before, edges), _shares(now, edges)
    return float(np.sum((p - q) * np.log(p / q)))


def _shares(values: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of each bin: up to an edge, above the last one, and not finite."""
    finite = np.isfinite(values)
    places = np.where(finite, np.searchsorted(edges, values), len(edges) + 1)
    counts = np.bincount(places, minlength=len(edges) + 2) + 0.5
    return np.asarray(counts / counts.sum())


def _spread(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values if len(values) <= MOST else values[np.linspace(0, len(values) - 1, MOST).astype(np.int64)]
