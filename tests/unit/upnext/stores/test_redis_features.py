"""What only Redis can do wrong, each with an error that says so, and the near cache in front of it."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep

import numpy as np
import pytest

from feature_repo.packed import PackedFeatures
from models.layout import FeatureLayout
from tests.support.redis_server import RedisServer, free_port, redis_server
from tests.support.stalling_proxy import StallingProxy, stalling_proxy
from upnext.errors import ConfigError, StoreError, StoreUnavailable
from upnext.settings import Settings
from upnext.stores import connect
from upnext.stores.redis_features import READ_S, TOGETHER, RedisFeatures

LAYOUT = FeatureLayout.of(["x", "y"])
IDS = ["a", "b", "c"]


def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> float:
    """Seconds until something holds; the test fails when it takes longer."""
    start = monotonic()
    while not holds():
        assert monotonic() - start < within_s, "it does not come to hold"
        sleep(0.005)
    return monotonic() - start


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisFeatures]:
    opened = RedisFeatures(redis_server.url())
    yield opened
    opened.close()


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[StallingProxy]:
    with stalling_proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def near(proxy: StallingProxy) -> Iterator[PackedFeatures]:
    """Features behind the near cache, all of it through the proxy."""
    store = RedisFeatures(f"redis://127.0.0.1:{proxy.port}/0?socket_timeout=10")
    features = PackedFeatures(store, {"view": LAYOUT}, near_mb={"view": 1})
    yield features
    proxy.flow()
    features.close()
    store.close()


def write(store: RedisFeatures, ids: list[str], value: float) -> None:
    rows = np.full((len(ids), 2), value, np.float32)
    PackedFeatures(store, {"view": LAYOUT}).write_matrix("view", ids, rows, 0)


def first(features: PackedFeatures, id_: str = "a") -> float:
    return float(features.read_matrix("view", [id_])[0, 0])


def hits(features: PackedFeatures) -> int:
    return features.near["view"].counts["hits"]


def warmed(features: PackedFeatures) -> None:
    """Wait until values are served from near."""
    before = hits(features)
    eventually(lambda: bool(features.read_matrix("view", IDS).any()) and hits(features) >= before + 3)


def test_many_values_are_written_counted_and_dropped_in_batches(store: RedisFeatures) -> None:
    ids = [f"v{number}" for number in range(2 * TOGETHER + 500)]
    store.put("some*view", ids, [b"1"] * len(ids))
    store.put("somexview", ["other"], [b"2"])
    store.put("some*view", [*ids[:10], "new"], [b"3"] * 11)
    assert store.count("some*view") == len(ids) + 1
    assert store.delete("some*view", ids[: TOGETHER + 1]) == TOGETHER + 1
    store.drop("some*view")
    assert (store.count("some*view"), store.views()) == (0, ["somexview"])
    assert store.get("somexview", ["other"]) == [b"2"]


def test_a_colon_in_a_view_is_refused(store: RedisFeatures) -> None:
    with pytest.raises(ConfigError, match="colon"):
        store.put("a:b", ["c"], [b""])


def test_the_settings_reach_it_and_messages_hide_the_password() -> None:
    port = free_port()
    settings = Settings(online_features_url=f"redis://ann:secret@127.0.0.1:{port}/0")
    with (
        connect(settings) as stores,
        pytest.raises(StoreUnavailable, match=r"ann:\*\*\*@.*does not") as error,
    ):
        stores.online_features.get("view", ["a"])
    assert "secret" not in str(error.value)


def test_a_wrong_password_is_told_as_one() -> None:
    with redis_server(password="right") as server:
        good, bad = RedisFeatures(server.url()), RedisFeatures(f"redis://:wrong@127.0.0.1:{server.port}/0")
        assert good.ping().startswith("Redis ")
        with pytest.raises(StoreError, match="refuses the user or password") as error:
            bad.get("view", ["a"])
        assert "wrong" not in str(error.value)
        good.close()
        bad.close()


def test_no_url_of_redis_is_a_setting_gone_wrong() -> None:
    with pytest.raises(ConfigError, match="no URL of Redis"):
        RedisFeatures("redis://127.0.0.1:notaport/0")
    with pytest.raises(ConfigError, match="with %2F for / in a password") as error:
        RedisFeatures("redis://:hunter2/abc@host")
    assert "redis://:***@host" in str(error.value) and "hunter2" not in str(error.value)
    assert error.value.__suppress_context__  # the client's own words quote it


def test_full_memory_is_told_and_what_was_there_stays(
    redis_server: RedisServer, store: RedisFeatures
) -> None:
    store.put("view", ["a"], [b"1"])
    with redis_server.client() as client:
        client.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(StoreError, match="no memory left"):
                store.put("view", ["a", "b"], [b"2", b"3"])
        finally:
            client.config_set("maxmemory", "0")
    assert store.get("view", ["a", "b"]) == [b"1", None]


def test_a_slow_server_costs_no_more_than_a_read_may_take(proxy: StallingProxy) -> None:
    store = RedisFeatures(f"redis://127.0.0.1:{proxy.port}/0")
    store.get("view", ["a"])
    proxy.stall()
    start = monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        store.get("view", ["a"])
    assert monotonic() - start < 10 * READ_S
    proxy.flow()
    assert store.get("view", ["a"]) == [None]
    store.close()


def test_a_server_that_was_started_again_is_found_again() -> None:
    with redis_server() as server:
        store = RedisFeatures(server.url())
        store.put("view", ["a"], [b"1"])
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.get("view", ["a"])
    with redis_server(port=server.port):
        assert store.get("view", ["a"]) == [None]
        store.put("view", ["a"], [b"2"])
        assert store.get("view", ["a"]) == [b"2"]
    store.close()


def test_what_was_sent_for_is_waited_for_and_never_taken_for_another_answer(proxy: StallingProxy) -> None:
    store = RedisFeatures(f"redis://127.0.0.1:{proxy.port}/0?max_connections=1&socket_timeout=0.5")
    store.put("view", IDS, [b"1", b"2", b"3"])
    with store.asking("view", ["b", "nobody"]) as answer:
        assert answer() == [b"2", None]
    with store.asking("view", ["a"]):
        pass  # the answer is on its way, and nobody asks for it
    assert store.get("view", ["c"]) == [b"3"]
    proxy.stall()
    with pytest.raises(StoreUnavailable, match="in time"), store.asking("view", ["a"]) as answer:
        answer()
    proxy.flow()
    assert store.get("view", ["b"]) == [b"2"]
    proxy.cut()
    with store.asking("view", ["c"]) as answer:
        assert answer() == [b"3"]
    store.close()


def test_what_another_client_writes_is_seen_through_the_near_cache(
    near: PackedFeatures, store: RedisFeatures
) -> None:
    write(store, IDS, 1)
    warmed(near)
    for turn in range(2, 12):
        write(store, IDS, turn)
        assert eventually(lambda turn=turn: first(near) == turn) < 1.0
    PackedFeatures(store, {"view": LAYOUT}).delete("view", ["a"])
    assert eventually(lambda: first(near) == 0.0) < 1.0
    warmed(near)


@pytest.mark.parametrize("how", ["flushed", "dropped"])
def test_a_view_that_is_gone_is_gone_from_near(
    near: PackedFeatures, store: RedisFeatures, redis_server: RedisServer, how: str
) -> None:
    write(store, IDS, 1)
    warmed(near)
    if how == "flushed":
        with redis_server.client() as client:
            client.flushdb()
    else:
        PackedFeatures(store, {"view": LAYOUT}).drop("view")
    assert eventually(lambda: first(near) == 0.0) < 1.0


def test_while_the_word_of_changes_is_silent_nothing_near_is_served(
    near: PackedFeatures, proxy: StallingProxy, store: RedisFeatures
) -> None:
    write(store, IDS, 1)
    warmed(near)
    cache = near.near["view"]
    proxy.stall()
    write(store, IDS, 2)  # of which nobody here is told
    took = eventually(lambda: len(cache.look(IDS).absent) == len(IDS))
    assert took <= 1.0
    eventually(lambda: len(cache) == 0)
    proxy.flow()
    eventually(lambda: first(near) == 2)
    warmed(near)
    assert first(near) == 2


def test_a_lost_connection_empties_the_cache_and_is_opened_again(
    near: PackedFeatures, proxy: StallingProxy, store: RedisFeatures
) -> None:
    write(store, IDS, 1)
    warmed(near)
    cache = near.near["view"]
    proxy.cut()
    eventually(lambda: len(cache) == 0)
    write(store, IDS, 2)
    warmed(near)
    assert first(near) == 2


def test_what_cannot_be_used_is_asked_for_again_and_what_is_near_is_not(
    near: PackedFeatures, store: RedisFeatures
) -> None:
    write(store, IDS, 1)
    (key,) = (name for name in store.views() if name.startswith("view@"))
    (good,) = store.get(key, ["a"])
    assert good is not None
    store.put(key, ["cut"], [good[:-1]])
    warmed(near)
    cache, defaults = near.near["view"], np.array([[8, 8], [6, 6], [9, 9]], np.float32)

    def missed() -> int:
        before = cache.counts["misses"]
        rows = near.read_matrix("view", ["cut", "a", "nobody"], defaults)
        assert rows.tolist() == [[8, 8], [1, 1], [9, 9]]
        return cache.counts["misses"] - before

    for _ in range(3):
        eventually(lambda: missed() == 2)
    assert near.lacks["view", "corrupt"] == near.lacks["view", "missing"] >= 3
    store.put(key, ["cut"], [good])
    eventually(lambda: first(near, "cut") == 1.0)
