"""What every store of profiles must do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from upnext.contracts import USERS
from upnext.errors import MissingData, StoreReadOnly
from upnext.ports import Profiles

PORT = "profiles"


def users(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=USERS)


@pytest.fixture
def profiles(site: Any) -> Profiles:
    return site.open()


def test_a_profile_comes_back_whole(profiles: Profiles) -> None:
    row = {
        "user_id": "ユーザー-1",
        "region": "JP",
        "language": "ja",
        "device": "phone",
        "age_group": "18-24",
        "topics": ["猫", "news"],
        "segments": ["is_lowactive_period=0", "follow_user_num_range=(10,50]"],
        "kids_mode": True,
        "created_at": datetime(2022, 4, 8, 1, 2, 3, 4, UTC),
    }
    bare = dict.fromkeys(USERS.names) | {"user_id": "bare"}
    profiles.put(users(row, bare))
    assert profiles.get("ユーザー-1") == row
    assert profiles.get("bare") == bare


def test_put_replaces(profiles: Profiles) -> None:
    profiles.put(users({"user_id": "u", "region": "DE", "topics": ["a"]}))
    profiles.put(users({"user_id": "u", "region": "FR"}))
    found = profiles.get("u")
    assert found is not None and (found["region"], found["topics"]) == ("FR", None)


def test_what_the_lake_brings_does_not_replace_what_was_told(profiles: Profiles) -> None:
    profiles.bring(users({"user_id": "u", "region": "DE"}, {"user_id": "w", "region": "DE"}))
    profiles.put(users({"user_id": "u", "region": "FR"}))
    profiles.bring(users({"user_id": "u", "region": "SE"}, {"user_id": "w", "region": "SE"}))
    found = [profiles.get(user) for user in ("u", "w")]
    assert [row and row["region"] for row in found] == ["FR", "SE"]
    profiles.put(users({"user_id": "u", "region": "NO"}))
    again = profiles.get("u")
    assert again is not None and again["region"] == "NO"


def test_scan_gives_every_user_once_by_id(profiles: Profiles) -> None:
    profiles.put(users(*({"user_id": f"u{place}"} for place in (3, 1, 4, 0, 2))))
    batches = list(profiles.scan(batch=2))
    assert [batch["user_id"].to_pylist() for batch in batches] == [["u0", "u1"], ["u2", "u3"], ["u4"]]
    assert all(batch.schema == USERS for batch in batches)


def test_forget_removes_one_user_and_nobody_else(profiles: Profiles) -> None:
    profiles.put(users({"user_id": "u"}, {"user_id": "other"}))
    assert profiles.forget("u") is True
    assert profiles.forget("u") is False
    assert profiles.get("u") is None
    assert profiles.get("other") is not None


def test_nobody_and_nothing(profiles: Profiles) -> None:
    profiles.put(USERS.empty_table())
    assert profiles.get("nobody") is None
    assert profiles.forget("nobody") is False


def test_a_missing_column_is_named(profiles: Profiles) -> None:
    with pytest.raises(MissingData, match="users have no column 'topics'"):
        profiles.put(users({"user_id": "u"}).drop_columns(["topics"]))


def test_many_threads(profiles: Profiles) -> None:
    def work(thread: int) -> bool:
        profiles.put(users({"user_id": f"u{thread}"}, {"user_id": "shared"}))
        return profiles.get(f"u{thread}") is not None and profiles.get("shared") is not None

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(24)))


def test_all_is_there_after_closing(site: Any, profiles: Profiles) -> None:
    profiles.put(users({"user_id": "u"}))
    site.close()
    assert site.open().get("u") is not None


def test_a_read_only_store_is_told_with_its_place_and_a_remedy(
    site: Any, refuse_writes: Callable[[], str]
) -> None:
    site.open().put(users({"user_id": "u"}))
    site.close()
    named = refuse_writes()
    with pytest.raises(StoreReadOnly, match=named):
        site.open().put(users({"user_id": "w"}))


def test_ping_says_something(profiles: Profiles) -> None:
    assert profiles.ping()
