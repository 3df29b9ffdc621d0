"""Creators and their videos: topic, style, quality, duration, upload time."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from upnext.world.arrivals import arrival_us, arrived
from upnext.world.config import WorldConfig
from upnext.world.draws import Floats, Stream, choose, keys_at, normals, uniform, uniforms
from upnext.world.geography import (
    DIMENSIONS,
    HOME_LANGUAGE,
    REGION_SHARES,
    TOPIC_SECONDS,
    TOPIC_SHARES,
    TOPICS,
    Space,
)

VIDEOS_PER_CREATOR = 20
BACK_CATALOGUE_DAYS = 365
MAIN_TOPIC_SHARE = 0.75
STYLE, OWN = 0.5, 0.35
"""Lengths of the creator's style and of the video's own noise beside the unit length of the topic."""
DURATION_SPREAD = 0.7
SHORTEST_S, LONGEST_S = 10.0, 1200.0
_CHUNK = 65_536


@dataclass(frozen=True)
class Videos:
    """Videos in row order, which is the order of upload.

    rows: int64[n]. creator: int32[n]. topic, language, region: int8[n]. quality: float32[n], standard normal.
    trend: float32[n], how much a video is sought after at its upload, in log-odds of a click.
    duration_s: float32[n]. uploaded_us: int64[n]. restricted: bool[n]. vector: float32[n, 16].
    """

    rows: NDArray[np.int64]
    creator: NDArray[np.int32]
    topic: NDArray[np.int8]
    language: NDArray[np.int8]
    region: NDArray[np.int8]
    quality: NDArray[np.float32]
    trend: NDArray[np.float32]
    duration_s: NDArray[np.float32]
    uploaded_us: NDArray[np.int64]
    restricted: NDArray[np.bool_]
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Creators:
    """Creators in the order asked for: topics int8[n, 2] (main, second), region int8[n], quality float64[n],
    style float64[n, 16]."""

    topics: NDArray[np.int8]
    region: NDArray[np.int8]
    quality: Floats
    style: Floats


def creators_in(config: WorldConfig) -> int:
    return max(2, config.videos // VIDEOS_PER_CREATOR)


def draw_creators(config: WorldConfig, rows: NDArray[np.int32]) -> Creators:
    keys = keys_at(config.seed, Stream.CREATOR, rows)
    return Creators(
        topics=choose(uniforms(keys, 0, 2), TOPIC_SHARES),
        region=choose(uniform(keys, 2), REGION_SHARES),
        quality=normals(keys, 3, 1)[..., 0],
        style=normals(keys, 10, DIMENSIONS) / np.sqrt(DIMENSIONS),
    )


def videos_by(config: WorldConfig, at_us: int) -> int:
    """How many videos were uploaded before a time."""
    return arrived(config.seed, Stream.VIDEO_ARRIVAL, at_us, config.videos)


def draw_videos(config: WorldConfig, space: Space, rows: NDArray[np.int64]) -> Videos:
    """The videos of these rows, whichever and in whatever order."""
    rows = np.asarray(rows, dtype=np.int64)
    keys = keys_at(config.seed, Stream.VIDEO, rows)
    # A power of the draw makes uploads heavy-tailed: the first creators are the most diligent ones.
    creator = np.floor(creators_in(config) * uniform(keys, 0) ** 1.6).astype(np.int32)
    who = draw_creators(config, creator)
    topic = np.where(uniform(keys, 1) < MAIN_TOPIC_SHARE, who.topics[:, 0], who.topics[:, 1])
    draws = normals(keys, 10, 3)
    own = OWN / np.sqrt(DIMENSIONS) * normals(keys, 30, DIMENSIONS)
    duration = TOPIC_SECONDS[topic] * np.exp(DURATION_SPREAD * draws[:, 1])
    return Videos(
        rows=rows,
        creator=creator,
        topic=topic.astype(np.int8),
        language=HOME_LANGUAGE[who.region],
        region=who.region,
        quality=(0.6 * who.quality + 0.8 * draws[:, 0]).astype(np.float32),
        trend=(1.2 * np.maximum(draws[:, 2], 0.0)).astype(np.float32),
        duration_s=np.clip(np.round(duration, 1), SHORTEST_S, LONGEST_S).astype(np.float32),
        uploaded_us=arrival_us(config.seed, Stream.VIDEO_ARRIVAL, rows, config.videos, BACK_CATALOGUE_DAYS),
        restricted=uniform(keys, 2) < 0.02,
        vector=(space.centres[topic] + STYLE * who.style + own).astype(np.float32),
    )


def draw_catalogue(config: WorldConfig, space: Space, count: int) -> Videos:
    """Videos 0 to ``count``, drawn a chunk at a time so that the work space stays small."""
    chunks = [
        draw_videos(config, space, np.arange(first, min(first + _CHUNK, count)))
        for first in range(0, count, _CHUNK)
    ]
    return Videos(**{f.name: np.concatenate([getattr(c, f.name) for c in chunks]) for f in fields(Videos)})


def topics_named(config: WorldConfig, videos: Videos) -> NDArray[np.int8]:
    """Category as the creator filed it: int8[n]; 4% wrong, 4% not filed at all (-1)."""
    keys = keys_at(config.seed, Stream.TEXT, videos.rows)
    luck = uniform(keys, 0)
    other = (uniform(keys, 1) * len(TOPICS)).astype(np.int8)
    return np.select([luck < 0.04, luck < 0.08], [np.int8(-1), other], videos.topic).astype(np.int8)
