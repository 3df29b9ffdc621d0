"""One order from what the ranker and the retrievers say of the same candidates.

    score = Σ weight(signal) · z(signal)

z is a signal standardised over the viewer's own candidates: mean 0, variance 1, held within ±LIMIT. So
weights mean the same for a viewer of much history and of little, on any log. :mod:`models.blend_fit` fits
them in each cycle; figures are in docs/LOG.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.numbers import Numbers
from upnext.errors import ConfigError

LIMIT = 12.0
"""Standard deviations beyond which a signal says no more: one outlier must not decide an order."""
TINY = 1e-6
"""Spread below which values are alike but for rounding."""


@dataclass(frozen=True)
class Blend(Numbers):
    """Weights of the signals, any finite numbers; an order does not depend on their scale."""

    utility: float = 0.8
    """The composite of the ranker's heads (:class:`models.utility.Weights`)."""
    long_view: float = 0.0
    """Logarithm of the head's probability, which the composite may weigh otherwise than the log does."""
    fused: float = 0.2
    """Reciprocal rank fusion of the retrievers that found the candidate."""
    als: float = 0.0
    """Viewer and candidate in ALS's factors, whoever found it."""
    two_tower: float = 0.0
    """The same in the towers' vectors."""
    neighbours: float = 0.0
    """Votes of what the viewer watched (:meth:`models.neighbours.Neighbours.votes`)."""
    popularity: float = 0.0
    """Logarithm of the decayed count."""

    OF: ClassVar[str] = " of the blend"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.to_dict().values()):
            raise ConfigError("all weights of the blend are 0: every video would score alike")

    def score(self, signals: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
        """float32[n] of one viewer's n candidates, higher is better.

        signals: name -> float[n]; one that is not there counts nothing.
        """
        there = [name for name in signals if getattr(self, name)]
        if not there:
            return np.zeros(len(next(iter(signals.values()))), np.float32)
        weights = np.array([getattr(self, name) for name in there], np.float32)
        score: NDArray[np.float32] = weights @ standardised(np.stack([signals[name] for name in there]))
        return score


SIGNALS = tuple(entry.name for entry in fields(Blend))


def standardised(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """float32[..., n] of mean 0 and variance 1 over the last axis, within ±LIMIT; 0 where all are alike."""
    if not values.shape[-1]:
        return np.asarray(values, np.float32)
    out = np.asarray(values - values.mean(axis=-1, keepdims=True), np.float32)
    spread = np.sqrt(np.mean(out * out, axis=-1, keepdims=True))
    out /= np.where(spread > TINY, spread, np.inf)
    return np.clip(out, -LIMIT, LIMIT, out=out)
