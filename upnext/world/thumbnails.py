"""Pictures of videos: the topic gives palette and shape, the creator's style the texture, luck the rest.

With 24 topics, 6 hues times 4 shapes tell them apart; background, place, size and grain vary by video.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.world.catalogue import Videos
from upnext.world.config import WorldConfig
from upnext.world.draws import Stream, extend, keys_at, uniforms

SIDE = 64
HUES = 6
_AT_ONCE = 256


def draw_thumbnails(config: WorldConfig, videos: Videos) -> NDArray[np.uint8]:
    """Thumbnails of videos in their order, RGB: uint8[n, 64, 64, 3]."""
    pictures = np.empty((len(videos.rows), SIDE, SIDE, 3), dtype=np.uint8)
    for first in range(0, len(pictures), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        pictures[part] = _draw(
            config.seed, videos.rows[part], videos.topic[part].astype(np.int64), videos.creator[part]
        )
    return pictures


def _draw(
    seed: int, rows: NDArray[np.int64], topic: NDArray[np.int64], creator: NDArray[np.int32]
) -> NDArray[np.uint8]:
    keys = keys_at(seed, Stream.THUMBNAIL, rows)
    luck = uniforms(keys, 0, 6)
    style = uniforms(keys_at(seed, Stream.THUMBNAIL, -1 - creator.astype(np.int64)), 0, 4)
    hue = (topic % HUES + 0.5 * (luck[:, 0] - 0.5)) / HUES
    front = _rgb(hue, 0.55 + 0.4 * style[:, 0], 0.75 + 0.25 * luck[:, 1])
    back = _rgb(hue + 0.5, 0.1 + 0.3 * style[:, 1], 0.25 + 0.4 * luck[:, 2])
    cover = _shape(topic // HUES, luck[:, 3:6])[..., None]
    picture = cover * front[:, None, None, :] + (1.0 - cover) * back[:, None, None, :]
    grain = uniforms(extend(keys, 1), 0, SIDE * SIDE).reshape(-1, SIDE, SIDE) - 0.5
    texture = 0.12 * _waves(style) + 0.10 * grain
    levels: NDArray[np.uint8] = np.clip(255.0 * (picture + texture[..., None]), 0.0, 255.0).astype(np.uint8)
    return levels


def _shape(kind: NDArray[np.int64], luck: NDArray[np.float64]) -> NDArray[np.float64]:
    """Disc, square, triangle or stripes, somewhere near the middle: 0 or 1, float64[n, 64, 64]."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    x = axis[None, None, :] - 0.5 - 0.2 * (luck[:, 0, None, None] - 0.5)
    y = axis[None, :, None] - 0.5 - 0.2 * (luck[:, 1, None, None] - 0.5)
    size = 0.22 + 0.12 * luck[:, 2, None, None]
    shapes = [
        x**2 + y**2 < size**2,
        np.maximum(np.abs(x), np.abs(y)) < size,
        (np.abs(x) < (y + size) / 2.0) & (y < size),
        np.sin(2.0 * np.pi * (x + y) / size) > 0.0,
    ]
    which = kind[:, None, None]
    return np.select([which == i for i in range(len(shapes))], shapes).astype(np.float64)


def _waves(style: NDArray[np.float64]) -> NDArray[np.float64]:
    """The creator's texture, a plane wave of its own direction and pitch: float64[n, 64, 64] in [-1, 1]."""
    axis = 2.0 * np.pi * np.arange(SIDE) / SIDE
    turn = np.pi * style[:, 2]
    pitch = 3.0 + 12.0 * style[:, 3]
    across, down = (pitch * np.cos(turn))[:, None, None], (pitch * np.sin(turn))[:, None, None]
    waves: NDArray[np.float64] = np.sin(across * axis[None, None, :] + down * axis[None, :, None])
    return waves


def _rgb(
    hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Colours from hue (turns), saturation and value in [0, 1]: float64[n, 3] in [0, 1]."""
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[:, None]) % 6.0
    wedge = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    colours: NDArray[np.float64] = value[:, None] * (1.0 - saturation[:, None] * wedge)
    return colours
