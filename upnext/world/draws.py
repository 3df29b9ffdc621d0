"""Random numbers by coordinates: the same place in the world gives the same number, asked in any order.

A draw is a hash of (seed, stream, coordinates, index) by the finaliser of SplitMix64 (Steele, Lea and Flood,
2014), vectorised over coordinates. numpy's own counter-based generator, Philox, takes one key per generator
object; here every viewer, video and slot has a key of its own, thousands at a time.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """What a draw is for. Two streams never share a number; a new one goes at the end."""

    SPACE = 1
    VIEWER = 2
    VIEWER_ARRIVAL = 3
    CREATOR = 4
    VIDEO = 5
    VIDEO_ARRIVAL = 6
    VISITS = 7
    SESSION = 8
    SLATE = 9
    RESPONSE = 10
    TEXT = 11
    THUMBNAIL = 12
    PROFILE = 13


def mix(keys: Keys) -> Keys:
    """Spread every bit of uint64[...] over the whole word (a bijection)."""
    mixed = keys ^ (keys >> np.uint64(30))
    mixed *= _MULTIPLY_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MULTIPLY_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def extend(keys: Keys, coordinates: ArrayLike) -> Keys:
    """Keys one coordinate deeper; integers of any sign, broadcast against ``keys``."""
    steps = np.atleast_1d(np.asarray(coordinates)).astype(np.uint64)
    return mix(keys + _STEP * (steps + np.uint64(1)))


def keys_at(seed: int, stream: Stream, *coordinates: ArrayLike) -> Keys:
    """Keys of the places that integer ``coordinates`` name, broadcast against each other; at least 1-d."""
    keys = extend(np.array([seed % 2**64], dtype=np.uint64), int(stream))
    for coordinate in coordinates:
        keys = extend(keys, coordinate)
    return keys


def _open_interval(bits: Keys) -> Floats:
    """The upper 52 bits as a number in (0, 1): with 53 the largest would round to one."""
    numbers: Floats = (bits >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    return numbers


def uniform(keys: Keys, index: int) -> Floats:
    """Draw number ``index`` at each key, uniform in the open interval (0, 1): float64, shape of ``keys``."""
    bits = mix(keys + _STEP * np.array([index + 1], dtype=np.uint64))
    return _open_interval(bits)


def uniforms(keys: Keys, first: int, count: int) -> Floats:
    """Draws ``first`` to ``first + count`` at each key: float64[..., count]."""
    steps = _STEP * np.arange(first + 1, first + count + 1, dtype=np.uint64)
    bits = mix(keys[..., None] + steps)
    return _open_interval(bits)


def normals(keys: Keys, first: int, count: int) -> Floats:
    """Standard normal draws (Box and Muller): float64[..., count]; takes 2 * count indices from ``first``."""
    radius = np.sqrt(-2.0 * np.log(uniforms(keys, first, count)))
    return radius * np.cos(2.0 * np.pi * uniforms(keys, first + count, count))


def choose(draws: Floats, shares: ArrayLike) -> NDArray[np.int8]:
    """Categories by shares (not necessarily summing to one) from uniform draws: int8, shape of ``draws``."""
    edges = np.cumsum(np.asarray(shares, dtype=np.float64))
    return np.searchsorted(edges[:-1] / edges[-1], draws, side="right").astype(np.int8)
