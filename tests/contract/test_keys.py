"""What every store of keys must do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from upnext.errors import StoreError
from upnext.ports import Keys, StoredKey

PORT = "keys"
NOW = datetime(2026, 11, 24, 13, tzinfo=UTC)


def key(name: str, **more: Any) -> StoredKey:
    given = {"scopes": ("read", "write"), "salt": b"\x00s", "digest": b"d\xff", "created_at": NOW} | more
    return StoredKey(key_id=f"id-{name}", name=name, **given)


@pytest.fixture
def keys(site: Any) -> Keys:
    return site.open()


def test_keys_come_back_whole_the_oldest_first(keys: Keys) -> None:
    assert list(keys.all()) == []
    later = key("later", created_at=NOW + timedelta(seconds=1), scopes=("admin",))
    keys.add(later)
    keys.add(key("first"))
    assert list(keys.all()) == [key("first"), later]


def test_a_revoked_key_stays_and_says_since_when(keys: Keys) -> None:
    keys.add(key("a"))
    at = NOW + timedelta(days=1)
    assert keys.revoke("id-a", at) is True
    assert keys.revoke("id-a", at + timedelta(days=1)) is False
    assert keys.revoke("id-nobody", at) is False
    assert [found.revoked_at for found in keys.all()] == [at]


def test_an_id_is_given_once(keys: Keys) -> None:
    keys.add(key("a"))
    with pytest.raises(StoreError):
        keys.add(key("a"))


def test_another_client_sees_them(site: Any, keys: Keys) -> None:
    keys.add(key("a"))
    assert list(site.open().all()) == [key("a")]


def test_ping_says_something(keys: Keys) -> None:
    assert keys.ping()
