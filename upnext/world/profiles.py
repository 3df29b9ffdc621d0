"""What the platform is told about viewers and videos: tables in the contract's columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from upnext.contracts import USERS, VIDEOS
from upnext.world.catalogue import Videos, draw_creators, topics_named
from upnext.world.columns import lists, named, row_ids
from upnext.world.config import START_US, WorldConfig
from upnext.world.draws import Stream, keys_at, uniform, uniforms
from upnext.world.geography import AGE_GROUPS, DEVICES, ENGLISH, LANGUAGES, REGIONS, TOPICS
from upnext.world.population import Viewers, weights_at
from upnext.world.words import OPENERS_PER_LANGUAGE, WORDS_PER_TOPIC, openers, spellings, topic_words

TELLS_TOPICS = 0.4
"""Share of viewers who named interests at sign-up."""
TOPICS_TOLD = 3
MOST_TAGS = 5
_PLANS = ("free", "plus", "family")


def user_table(config: WorldConfig, viewers: Viewers) -> pa.Table:
    """Viewers in the columns of USERS. Four in ten named topics when they came, often not all."""
    keys = keys_at(config.seed, Stream.PROFILE, viewers.rows)
    weights = weights_at(viewers, np.full(len(viewers.rows), START_US))
    ranked = np.argsort(-weights, axis=1, kind="stable")[:, :TOPICS_TOLD]
    told = np.take_along_axis(viewers.interests, ranked, axis=1)
    count = np.where(
        uniform(keys, 0) < TELLS_TOPICS, 1 + (uniform(keys, 1) * TOPICS_TOLD).astype(np.int64), 0
    )
    plan = (uniform(keys, 2) ** 2 * len(_PLANS)).astype(np.int8)
    segments = pc.binary_join_element_wise("plan", named(plan, _PLANS), "=")
    columns = {
        "user_id": row_ids("u", viewers.rows),
        "region": named(viewers.region, REGIONS),
        "language": named(viewers.language, LANGUAGES),
        "device": named(viewers.device, DEVICES),
        "age_group": named(viewers.age, AGE_GROUPS),
        "topics": lists(count, named(told[np.arange(TOPICS_TOLD) < count[:, None]], TOPICS)),
        "segments": lists(np.ones(len(keys), dtype=np.int64), segments),
        "kids_mode": pa.array(np.zeros(len(keys), np.bool_)),
        "created_at": pa.array(viewers.joined_us).cast(USERS.field("created_at").type),
    }
    return pa.table(columns, schema=USERS)


def video_table(config: WorldConfig, videos: Videos) -> pa.Table:
    """Videos in the columns of VIDEOS. Titles follow the true topic, tags mostly, categories nearly."""
    keys = keys_at(config.seed, Stream.TEXT, videos.rows)
    thumbnail = pc.binary_join_element_wise(f"world://{config.seed}", row_ids("v", videos.rows), "/")
    columns = {
        "video_id": row_ids("v", videos.rows),
        "title": _titles(videos, uniforms(keys, 10, 4)),
        "tags": _tags(config, videos, uniforms(keys, 20, 3 * MOST_TAGS + 1)),
        "category": named(topics_named(config, videos), TOPICS),
        "creator_id": row_ids("c", videos.creator.astype(np.int64)),
        "duration_ms": pa.array(np.round(1000.0 * videos.duration_s.astype(np.float64)).astype(np.int64)),
        "uploaded_at": pa.array(videos.uploaded_us).cast(VIDEOS.field("uploaded_at").type),
        "language": named(videos.language, LANGUAGES),
        "region": named(videos.region, REGIONS),
        "thumbnail_url": thumbnail,
        "age_restricted": pa.array(videos.restricted),
        "made_for_kids": pa.array(np.zeros(len(keys), np.bool_)),
        "blocked_regions": lists(np.zeros(len(keys), np.int64), pa.array([], pa.string())),
        "status": named(np.zeros(len(keys)), ["active"]),
    }
    return pa.table(columns, schema=VIDEOS)


def _word_codes(
    topic: NDArray[np.int64], language: NDArray[np.int8], pick: NDArray[np.float64]
) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = (topic * len(LANGUAGES) + language) * WORDS_PER_TOPIC
    return codes + (pick * WORDS_PER_TOPIC).astype(np.int64)


def _titles(videos: Videos, draws: NDArray[np.float64]) -> pa.Array:
    """An opener and two different words of the topic: string[n]."""
    topic, language = videos.topic.astype(np.int64), videos.language
    opener = language * OPENERS_PER_LANGUAGE + (draws[:, 0] * OPENERS_PER_LANGUAGE).astype(np.int64)
    first = _word_codes(topic, language, draws[:, 1])
    step = 1 + (draws[:, 2] * (WORDS_PER_TOPIC - 1)).astype(np.int64)
    base = first - first % WORDS_PER_TOPIC
    second = base + (first % WORDS_PER_TOPIC + step) % WORDS_PER_TOPIC
    return pc.binary_join_element_wise(
        named(opener, openers()), named(first, topic_words()), named(second, topic_words()), " "
    )


def _tags(config: WorldConfig, videos: Videos, draws: NDArray[np.float64]) -> pa.ListArray:
    """Up to five words, mostly of the topic, some of the creator's second one or of any; a few in English."""
    n = len(videos.rows)
    count = 2 + (draws[:, -1] * (MOST_TAGS - 1)).astype(np.int64)
    kind, pick, other = (draws[:, i * MOST_TAGS : (i + 1) * MOST_TAGS] for i in range(3))
    second = draw_creators(config, videos.creator).topics[:, 1]
    topic = np.select(
        [kind < 0.75, kind < 0.9],
        [videos.topic[:, None], second[:, None]],
        (other * len(TOPICS)).astype(np.int8),
    ).astype(np.int64)
    language = np.where(other < 0.15, ENGLISH, videos.language[:, None]).astype(np.int8)
    codes = _word_codes(topic, language, pick)
    kept = np.arange(MOST_TAGS) < count[:, None]
    spelt = spellings()[codes]
    earlier = np.tri(MOST_TAGS, k=-1, dtype=np.bool_)
    kept &= ~((spelt[:, :, None] == spelt[:, None, :]) & earlier).any(axis=2)
    return lists(kept.sum(axis=1).reshape(n), named(codes[kept], topic_words()))
