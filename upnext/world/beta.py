"""Quantiles of the Beta distribution by table: one uniform draw gives one watch fraction, rising with it.

Sampling by inversion keeps two policies paired: the same draw with a higher mean gives a longer watch.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from upnext.world.draws import Floats

_MEANS = np.linspace(0.02, 0.98, 97)
_DRAWS = 513
_GRID = 4096


@cache
def _table(concentration: float) -> NDArray[np.float64]:
    """Quantiles float64[means, draws] of Beta(m * c, (1 - m) * c).

    In the angle t with x = sin²t the density is sin^(2a-1) t · cos^(2b-1) t, tame enough at its ends to sum.
    """
    edges = np.linspace(0.0, np.pi / 2.0, _GRID + 1)
    middles = (edges[1:] + edges[:-1]) / 2.0
    draws = np.linspace(0.0, 1.0, _DRAWS)
    rows = []
    for mean in _MEANS:
        a, b = mean * concentration, (1.0 - mean) * concentration
        density = np.exp((2 * a - 1) * np.log(np.sin(middles)) + (2 * b - 1) * np.log(np.cos(middles)))
        below = np.concatenate([[0.0], np.cumsum(density)])
        rows.append(np.sin(np.interp(draws, below / below[-1], edges)) ** 2)
    return np.array(rows)


def beta_quantile(mean: Floats, draw: Floats, concentration: float) -> Floats:
    """Value below which a Beta of this mean and concentration falls with probability ``draw``; same shape.

    Means are held within 0.02 and 0.98; between table entries the quantile is interpolated.
    """
    table = _table(concentration)
    row = np.clip((mean - _MEANS[0]) / (_MEANS[1] - _MEANS[0]), 0.0, len(_MEANS) - 1.001)
    column = np.clip(draw * (_DRAWS - 1), 0.0, _DRAWS - 1.001)
    i, j = row.astype(np.int64), column.astype(np.int64)
    right, down = column - j, row - i
    upper = (1 - right) * table[i, j] + right * table[i, j + 1]
    lower = (1 - right) * table[i + 1, j] + right * table[i + 1, j + 1]
    quantile: Floats = (1 - down) * upper + down * lower
    return quantile
