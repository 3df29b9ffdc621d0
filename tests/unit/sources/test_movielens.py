"""MovieLens in its three layouts, which must all come to the same events."""

from pathlib import Path

import pyarrow as pa
import pytest

from upnext.contracts import QUARANTINE
from upnext.errors import MissingData
from upnext.sources import open_source
from upnext.sources.checks import split

RATINGS = [("1", "10", "5", "881250949"), ("1", "11", "3", "881250950"), ("2", "10", "1", "881250951")]
EXPECTED = [
    ("1", "10", "watch", 881250949),
    ("1", "10", "like", 881250949),
    ("1", "11", "click", 881250950),
    ("2", "10", "not_interested", 881250951),
]


def hundred_k(folder: Path) -> None:
    (folder / "u.data").write_text("".join("\t".join(row) + "\n" for row in RATINGS))
    flags = ["0"] * 19
    toy, nothing = flags.copy(), flags.copy()
    toy[3] = toy[5] = nothing[0] = "1"
    rows = [
        ["10", "Misérables, Les (1995)", "01-Jan-1995", "", "http://x", *toy],
        ["11", "unknown", "", "", "", *nothing],
    ]
    (folder / "u.item").write_bytes("".join("|".join(row) + "\n" for row in rows).encode("latin-1"))
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")


def one_m(folder: Path) -> None:
    (folder / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATINGS))
    movies = "10::Misérables, Les (1995)::Animation|Comedy\n11::Nameless::unknown\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    (folder / "users.dat").write_text("1::M::24::10::85711\n2::F::53::9::94043\n")


def csv(folder: Path) -> None:
    rows = "".join(",".join(row) + "\n" for row in RATINGS)
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + rows)
    movies = '10,"Misérables, Les (1995)",Animation|Comedy\n11,Nameless,(no genres listed)\n'
    (folder / "movies.csv").write_text("movieId,title,genres\n" + movies)


def read(folder: Path) -> list[dict]:
    return split(
        pa.concat_tables(open_source(f"movielens:{folder}").events()), "events", "test"
    ).good.to_pylist()


def videos(folder: Path) -> dict[str, dict]:
    checked = split(pa.concat_tables(open_source(f"movielens:{folder}").videos()), "videos", "test")
    assert not len(checked.refused)
    return {video["video_id"]: video for video in checked.good.to_pylist()}


@pytest.mark.parametrize("layout", [hundred_k, one_m, csv])
def test_all_layouts_come_to_the_same(tmp_path: Path, layout) -> None:
    layout(tmp_path)
    events = read(tmp_path)

    found = [(e["user_id"], e["video_id"], e["event_type"], int(e["timestamp"].timestamp())) for e in events]
    assert found == EXPECTED
    assert len({event["event_id"] for event in events}) == 4
    assert events == read(tmp_path)
    film = videos(tmp_path)["10"]
    assert (film["title"], film["category"]) == ("Misérables, Les (1995)", "Animation")
    assert (film["tags"], film["uploaded_at"].year) == (["Animation", "Comedy"], 1995)
    other = videos(tmp_path)["11"]
    assert (other["tags"], other["category"], other["uploaded_at"]) == ([], None, None)


@pytest.mark.parametrize("layout", [hundred_k, one_m])
def test_users_keep_what_is_known_of_them(tmp_path: Path, layout) -> None:
    layout(tmp_path)
    users = split(
        pa.concat_tables(open_source(f"movielens:{tmp_path}").users()), "users", "test"
    ).good.to_pylist()
    assert {"gender=M", "age=24", "zip=85711"} <= set(users[0]["segments"])


def test_given_tags_join_the_genres_the_most_given_first(tmp_path: Path) -> None:
    csv(tmp_path)
    tags = "1,10,funny,1\n2,10,Sad,1\n3,10,sad ,1\n3,10,a|b,1\n"
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + tags)
    assert videos(tmp_path)["10"]["tags"] == ["Animation", "Comedy", "sad", "a b", "funny"]
    assert videos(tmp_path)["11"]["tags"] == []


def test_a_row_that_is_no_rating_is_quarantined(tmp_path: Path) -> None:
    one_m(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as file:
        file.write("2::11::great::881250952\n2::11\n")
    refused = [
        row["reason"]
        for table in open_source(f"movielens:{tmp_path}").events()
        if table.schema.equals(QUARANTINE)
        for row in table.to_pylist()
    ]
    assert sorted(refused) == ["not 4 cells parted by '::'", "rating is not a number"]


def test_a_folder_without_ratings_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"u\.data or ratings\.dat or ratings\.csv"):
        open_source(f"movielens:{tmp_path}")
