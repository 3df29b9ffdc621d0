"""What every store of online features must do."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upnext.abilities import Joins
from upnext.errors import InvalidRequest, StoreReadOnly
from upnext.ports import OnlineFeatures

PORT = "online_features"


@pytest.fixture
def features(site: Any) -> OnlineFeatures:
    return site.open()


def test_values_come_in_the_order_asked_for(features: OnlineFeatures) -> None:
    features.put("video", ["a", "b", "видео-🎬"], [b"1", b"", bytes(range(256))])
    asked = ["видео-🎬", "nobody", "b", "a", "a"]
    assert features.get("video", asked) == [bytes(range(256)), None, b"", b"1", b"1"]


def test_put_replaces_and_the_last_of_a_call_wins(features: OnlineFeatures) -> None:
    features.put("video", ["a", "b"], [b"1", b"2"])
    features.put("video", ["a", "a"], [b"3", b"longer than before"])
    assert features.get("video", ["a", "b"]) == [b"longer than before", b"2"]
    assert features.count("video") == 2


def test_views_are_apart(features: OnlineFeatures) -> None:
    views = ["video", "video_stream", "вид"]
    for view in views:
        features.put(view, ["x"], [view.encode()])
    assert [features.get(view, ["x"]) for view in views] == [[view.encode()] for view in views]
    assert features.views() == views
    features.drop("video")
    assert features.views() == ["video_stream", "вид"]
    assert features.get("video", ["x"]) == [None]
    features.put("video", ["y"], [b"again"])
    assert features.get("video", ["x", "y"]) == [None, b"again"]


def test_delete(features: OnlineFeatures) -> None:
    features.put("user", ["a", "b", "c"], [b"1", b"2", b"3"])
    assert features.delete("user", ["a", "nobody", "c"]) == 2
    assert features.delete("user", ["a"]) == 0
    assert features.get("user", ["a", "b", "c"]) == [None, b"2", None]
    assert features.count("user") == 1


def test_nothing(features: OnlineFeatures) -> None:
    features.put("user", [], [])
    assert features.views() == []
    assert features.get("user", []) == []
    assert features.get("user", ["a"]) == [None]
    assert (features.count("user"), features.delete("user", ["a"])) == (0, 0)
    features.drop("user")


def test_what_does_not_pair_up_is_refused_whole(features: OnlineFeatures) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        features.put("user", ["a", "b"], [b"1"])
    with pytest.raises(InvalidRequest, match="empty"):
        features.put("user", ["a", ""], [b"1", b"2"])
    assert features.get("user", ["a"]) == [None]


def test_the_longest_ids_that_the_contract_allows(features: OnlineFeatures) -> None:
    ids = ["🎬" * 128, "🎬" * 127 + "é", "🎬" * 127]
    features.put("video", ids, [b"1", b"2", b"3"])
    assert features.get("video", ids) == [b"1", b"2", b"3"]


def test_joined_values_are_those_of_get(features: OnlineFeatures) -> None:
    if not isinstance(features, Joins):
        pytest.skip("this store does not join")
    longest, unknown = "🎬" * 128, "🎬" * 127 + "é"  # LMDB knows both by a digest
    assert features.get_joined("video", ["a", unknown], b"-") == b"--"
    features.put("video", ["a", longest], [b"1", b"2"])
    assert features.get_joined("video", ["a", "a"], b"-") == b"11"
    assert features.get_joined("video", [longest, "nobody", unknown, "a"], b"-") == b"2--1"
    for empty in (["a", ""], ["", "nobody"]):
        with pytest.raises(InvalidRequest, match="empty"):
            features.get_joined("video", empty, b"-")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=128).filter(str.isprintable), st.binary(max_size=600)))
def test_any_ids_and_bytes(features: OnlineFeatures, values: dict[str, bytes]) -> None:
    features.drop("wild")
    features.put("wild", list(values), list(values.values()))
    assert features.get("wild", list(values)) == list(values.values())
    assert features.count("wild") == len(values)


def test_readers_see_a_put_whole_or_not_at_all(features: OnlineFeatures) -> None:
    ids = [f"v{number}" for number in range(200)]
    features.put("video", ids, [b"0"] * 200)

    def write(_: int) -> None:
        for turn in range(1, 10):
            features.put("video", ids, [b"%d" % turn] * 200)

    def read(_: int) -> list[set[bytes | None]]:
        return [set(features.get("video", ids)) for _ in range(10)]

    with ThreadPoolExecutor(4) as threads:
        writing = threads.submit(write, 0)
        seen = [values for turns in threads.map(read, range(3)) for values in turns]
        writing.result()
    assert all(len(values) == 1 for values in seen)


WRITE = """
import sys
from upnext.settings import Settings
from upnext.stores import connect

with connect(Settings.model_validate_json(sys.argv[1])) as stores:
    for turn in range(10):
        ids = [f"{sys.argv[2]}-{turn}-{n}" for n in range(20)]
        stores.online_features.put("video", ids, [sys.argv[2].encode()] * 20)
        print(turn, flush=True)
"""


def test_several_processes_write_at_once(site: Any, features: OnlineFeatures) -> None:
    arguments = [sys.executable, "-c", WRITE, site.settings.model_dump_json()]
    children = [subprocess.Popen([*arguments, name], stdout=subprocess.PIPE) for name in ("one", "two")]
    counts = [0]
    for child in children:
        for _ in child.stdout:  # a line for each put
            counts.append(features.count("video"))
        child.stdout.close()
    assert [child.wait() for child in children] == [0, 0]
    assert all(before <= after for before, after in pairwise(counts))
    assert features.count("video") == 400
    assert features.get("video", ["one-9-19", "two-0-0"]) == [b"one", b"two"]


def test_two_clients_of_one_process_see_the_same(site: Any, features: OnlineFeatures) -> None:
    other = site.open()
    features.put("video", ["a"], [b"1"])
    assert other.get("video", ["a"]) == [b"1"]


def test_all_is_there_after_closing(site: Any, features: OnlineFeatures) -> None:
    features.put("video", ["a"], [b"1"])
    site.close()
    again = site.open()
    assert again.get("video", ["a"]) == [b"1"]
    assert again.views() == ["video"]


def test_a_read_only_store_is_told_with_its_place_and_a_remedy(
    site: Any, refuse_writes: Callable[[], str]
) -> None:
    site.open().put("video", ["a"], [b"1"])
    site.close()
    named = refuse_writes()
    with pytest.raises(StoreReadOnly, match=named):
        site.open().put("video", ["a"], [b"2"])


def test_ping_says_something(features: OnlineFeatures) -> None:
    assert features.ping()
