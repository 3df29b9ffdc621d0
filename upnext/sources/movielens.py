"""MovieLens (Harper and Konstan, TiiS 2015, grouplens.org): ratings of films, in three layouts.

``u.data`` (100k), ``ratings.dat`` (1M, 10M) or ``ratings.csv`` (all later sets). A rating of 4 or more is a
watch of unknown time and a like, of 2 or less a not_interested, in between a click. Nobody recorded what
was shown, so there are no impressions. The first genre is the category; genres, and of ``tags.csv`` the
20 most given, are tags; the year of release stands for the time of upload.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upnext.contracts import QUARANTINE
from upnext.sources.base import Tables, existing_folder, find, find_some, mapped, slug
from upnext.sources.checks import typed_rows
from upnext.sources.ids import row_ids
from upnext.sources.rawfiles import read_csv, read_split
from upnext.sources.segments import segments

_RATING = {"user_id": pa.string(), "video_id": pa.string(), "rating": pa.float64(), "timestamp": pa.int64()}
_GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
_CSV_NAMES = {"userId": "user_id", "movieId": "video_id", "genres": "genre"}
_NO_GENRE = ["", "(no genres listed)", "unknown"]
_TAGS = 20


class MovieLensSource:
    """``movielens:DIR``."""

    timed = True

    def __init__(self, folder: str) -> None:
        self.folder = existing_folder(folder, "movielens")
        self._ratings = find_some(self.folder, "u.data", "ratings.dat", "ratings.csv")[0]
        self.dataset = slug(f"movielens_{self.folder.resolve().name}")

    def videos(self) -> Tables:
        if ".csv" in self._ratings.suffixes:
            popular = _popular_tags(find(self.folder, "tags.csv"))
            for path in find_some(self.folder, "movies.csv"):
                rows = _renamed(read_csv(path, "videos", ["movieId", "title", "genres"], ()))
                yield from mapped(rows, lambda raw: _videos(raw.join(popular, "video_id")))
        elif self._ratings.name.startswith("u.data"):
            names = ("video_id", "title", "released", "video_released", "url", *_GENRES_100K)
            for path in find_some(self.folder, "u.item"):
                rows = read_split(path, "videos", "|", names, "latin-1")
                yield from mapped(rows, lambda raw: _videos(_genres_of_flags(raw)))
        else:
            for path in find_some(self.folder, "movies.dat"):
                rows = read_split(path, "videos", "::", ("video_id", "title", "genre"), "latin-1")
                yield from mapped(rows, _videos)

    def users(self) -> Tables:
        for path in find(self.folder, "u.user"):
            names = ("user_id", "age", "gender", "occupation", "zip")
            yield from mapped(read_split(path, "users", "|", names, "latin-1"), segments)
        for path in find(self.folder, "users.dat"):
            names = ("user_id", "gender", "age", "occupation", "zip")
            yield from mapped(read_split(path, "users", "::", names, "latin-1"), segments)

    def events(self, since: datetime | None = None) -> Tables:
        path = self._ratings
        if ".csv" in path.suffixes:
            raw = _renamed(read_csv(path, "events", ["userId", "movieId", "rating", "timestamp"], ()))
        else:
            raw = read_split(path, "events", "\t" if path.name.startswith("u.data") else "::", list(_RATING))
        return mapped(typed_rows(raw, _RATING, "events", str(path)), _events)


def _renamed(tables: Tables) -> Iterator[pa.Table]:
    for raw in tables:
        yield raw.rename_columns([_CSV_NAMES.get(name, name) for name in raw.column_names])


def _genres_of_flags(raw: pa.Table) -> pa.Table:
    """The 100k layout's 0/1 column per genre as one text, like the other layouts'."""
    named = [pc.if_else(pc.equal(raw[genre], "1"), genre, None) for genre in _GENRES_100K]
    return raw.select(["video_id", "title"]).append_column("genre", _joined(*named))


def _videos(raw: pa.Table) -> pa.Table:
    genre = raw["genre"]
    genre = pc.if_else(pc.is_in(genre, value_set=pa.array(_NO_GENRE)), None, genre)
    tags = raw["popular"] if "popular" in raw.column_names else pa.nulls(len(raw), pa.string())
    year = pc.extract_regex(raw["title"], r"\((?P<year>\d{4})\)\s*$")
    year = pc.struct_field(year, "year")
    return pa.table(
        {
            "video_id": raw["video_id"],
            "title": pc.utf8_slice_codeunits(raw["title"], 0, 500),
            "tags": _joined(genre, tags),
            "category": pc.list_element(pc.split_pattern(pc.fill_null(genre, ""), "|"), 0),
            "uploaded_at": pc.binary_join_element_wise(year, "01-01", "-"),
        }
    )


def _joined(*columns: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts joined by |, without those that are null; null where all are."""
    every = pc.binary_join_element_wise(*[pc.fill_null(column, "") for column in columns], "|")
    joined = pc.utf8_trim(pc.replace_substring_regex(every, r"\|+", "|"), "|")
    return pc.if_else(pc.equal(joined, ""), None, joined)


def _popular_tags(paths: list[Path]) -> pa.Table:
    """video_id and, parted by |, the tags most given to it, the most frequent first."""
    import duckdb

    given = pa.schema([("video_id", pa.string()), ("tag", pa.string())]).empty_table()
    tables = [raw for path in paths for raw in _renamed(read_csv(path, "videos", ["movieId", "tag"], ()))]
    good = [raw for raw in tables if not raw.schema.equals(QUARANTINE)]
    with duckdb.connect() as engine:
        engine.register("given", pa.concat_tables([given, *good]))
        result: pa.Table = engine.sql(
            f"""WITH counted AS (
                    SELECT video_id, left(replace(lower(trim(tag)), '|', ' '), 64) AS tag, count(*) AS n
                    FROM given WHERE trim(tag) <> '' GROUP BY ALL)
                SELECT video_id, array_to_string(list(tag ORDER BY n DESC, tag)[:{_TAGS}], '|') AS popular
                FROM counted GROUP BY video_id"""  # noqa: S608
        ).to_arrow_table()
    return result


def _events(rows: pa.Table) -> pa.Table:
    """One event for each rating, and a like beside the watch of a high one, in the ratings' order."""
    rating = rows["rating"].to_numpy()
    kind = np.select([rating >= 4.0, rating <= 2.0], ["watch", "not_interested"], "click")
    halves = pa.array(np.round(rating * 2).astype(np.int64))
    content = row_ids(rows["user_id"], rows["video_id"], rows["timestamp"], halves)
    events = rows.select(["user_id", "video_id", "timestamp"])
    events = events.append_column("event_type", pa.array(kind, pa.string()))
    events = events.append_column("event_id", row_ids(content, "rating"))
    high = np.flatnonzero(rating >= 4.0)
    likes = events.take(high)
    likes = likes.set_column(3, "event_type", pa.array(["like"] * len(likes), pa.string()))
    likes = likes.set_column(4, "event_id", row_ids(content.take(high), "like"))
    place = np.concatenate([np.arange(len(rows)), high])
    return pa.concat_tables([events, likes]).take(np.argsort(place, kind="stable"))
