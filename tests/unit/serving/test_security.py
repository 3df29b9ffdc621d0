"""Who is let in: keys, scopes, rates, sizes."""

import json
import socket
from time import monotonic

import pytest
from limits import parse

from serving import breakers
from serving.bounds import LARGEST, LONGEST
from serving.breakers import FAILURES
from serving.security import Guard, RateLimits
from tests.support.keys import make_key
from tests.support.stalling_proxy import stalling_proxy
from upnext.cli.main import cli
from upnext.errors import ConfigError
from upnext.settings import Settings

HOME, EVENTS, METRICS = "/api/v1/recommendations/home", "/api/v1/events/engagement", "/metrics"
ANYWHERE = "0.0.0.0"  # noqa: S104
EVENT = {"user_id": "ann", "video_id": "v003", "event_type": "like"}


@pytest.fixture
def key_for(server):
    """Makes a key with some scopes, known to the server."""

    def make(*scopes):
        key, key_id = make_key(server.stores.keys, *scopes)
        server.guard.refresh()
        return key, key_id

    return make


def bearer(key):
    return {"headers": {"Authorization": f"Bearer {key}"}}


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


def test_without_any_key_everybody_may_come_in(client):
    assert client.get(HOME).status_code == client.get(METRICS).status_code == 200


def test_once_there_is_a_key_one_is_needed(client, key_for):
    key, _ = key_for("read")
    answer = client.get(HOME)
    assert "X-API-Key" in refused(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="upnext"'
    assert client.get(HOME, **bearer(key)).status_code == 200
    assert client.get(HOME, headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_key_opens_what_its_scope_says(client, key_for, scope):
    key, key_id = key_for(scope)
    asked = {
        "read": client.get(HOME, **bearer(key)),
        "write": client.post(EVENTS, json=EVENT, **bearer(key)),
        "admin": client.get(METRICS, **bearer(key)),
    }
    assert asked.pop(scope).status_code == 200
    for other, answer in asked.items():
        assert key_id in refused(answer, 403) and key not in answer.text
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{other}"'


def test_probes_and_the_contract_need_no_key(client, key_for):
    key_for("admin")
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert client.get(path).status_code == 200


def test_a_wrong_key_is_refused_and_not_repeated(client, key_for):
    key, key_id = key_for("read")
    other, _ = key_for("read")
    mixed = f"upnext_{key_id}_{other.rpartition('_')[2]}"
    nobodys = f"upnext_{'0' * 12}_{'A' * 43}"
    for wrong in (key[:-1], key + "A", key.upper(), "", "upnext", mixed, nobodys, "é"):
        answer = client.get(HOME, headers={"X-API-Key": wrong.encode()})
        refused(answer, 401)
        assert len(wrong) < 20 or wrong.removeprefix("upnext_") not in answer.text


def test_the_door_comes_before_the_request_is_read(client, key_for):
    key_for("read")
    refused(client.get(HOME + "?count=0"), 401)
    refused(client.post(EVENTS, content=b"{"), 401)


def test_a_revoked_key_ends_and_leaves_nothing_open(client, server, key_for):
    key, key_id = key_for("read")
    assert server.stores.keys.revoke(key_id, server.users.now())
    server.guard.refresh()
    refused(client.get(HOME, **bearer(key)), 401)
    refused(client.get(HOME), 401)


def test_before_the_keys_are_known_nobody_is_let_in(server):
    assert not Guard(server.stores.keys, open_without_keys=True).open
    closed = Guard(server.stores.keys)
    closed.refresh()
    assert not closed.open


def test_a_key_is_kept_as_a_salted_digest(server, key_for):
    keys = [key_for("read")[0] for _ in range(2)]
    kept = server.stores.keys.all()
    assert len({row.digest for row in kept}) == len({row.salt for row in kept}) == 2
    for key in keys:
        secret = key.split("_", 2)[2]  # which may hold more of them
        files = [path for path in server.settings.home.rglob("*") if path.is_file()]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_each_key_has_a_rate_of_its_own(client, server, key_for):
    server.rate_limits = RateLimits(parse("3 per hour"))
    (one, one_id), (two, _) = key_for("read"), key_for("read")
    left = [client.get(HOME, **bearer(one)).headers["ratelimit"] for _ in range(3)]
    assert [text.split(";")[1] for text in left] == ["r=2", "r=1", "r=0"]
    answer = client.get(HOME, **bearer(one))
    assert "3 requests of 3600 s" in refused(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    assert answer.headers["ratelimit-policy"] == '"key";q=3;w=3600'
    assert client.get(HOME, **bearer(two)).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert one_id not in answer.text


def test_a_counter_that_is_away_closes_nothing(client, server, key_for, monkeypatch):
    key, _ = key_for("read")
    server.rate_limits = RateLimits(parse("1 per hour"))
    monkeypatch.setattr(server.rate_limits._limiter, "hit", lambda *_: 1 / 0)
    answers = [client.get(HOME, **bearer(key)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert "ratelimit" not in answers[0].headers


def test_a_silent_counter_is_waited_for_shortly_and_then_left_alone(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = RateLimits(parse("1 per hour"), f"redis://127.0.0.1:{silent.getsockname()[1]}")
        before = monotonic()
        assert [limits.spend("one") for _ in range(FAILURES)] == [None] * FAILURES
        assert monotonic() - before < 3  # redis-py itself would wait for 5 s each time
    monkeypatch.setattr(limits._limiter, "hit", lambda *_: pytest.fail("it was asked again"))
    assert limits.spend("one") is None and not limits.waits


def test_a_counter_that_is_back_counts_again(redis_server, monkeypatch):
    monkeypatch.setattr(breakers, "REST_S", 0.0)
    with stalling_proxy(redis_server.port) as proxy:
        limits = RateLimits(parse("3 per hour"), f"redis://127.0.0.1:{proxy.port}")
        assert limits.spend("back").left == 2
        proxy.stall()
        assert [limits.spend("back") for _ in range(FAILURES)] == [None] * FAILURES
        proxy.flow()
        assert limits.spend("back") is not None


def test_a_wrong_address_of_the_counter_is_told_without_its_password(tmp_path):
    with pytest.raises(ConfigError) as told:
        RateLimits.of(Settings(home=tmp_path, rate_limit_url="redisx://me:hunter2@host"))
    assert "redisx://me:***@host" in str(told.value) and "hunter2" not in str(told.value)


@pytest.mark.parametrize("wrong", [{"rate_limit": "many"}, {"rate_limit_url": "carrier-pigeon://"}])
def test_a_wrong_rate_is_told_at_the_start(tmp_path, wrong):
    with pytest.raises(ConfigError, match="UPNEXT_RATE_LIMIT"):
        RateLimits.of(Settings(home=tmp_path, **wrong))
    assert RateLimits.of(Settings(home=tmp_path, rate_limit="")) is None


def test_reading_stops_at_the_limit_however_a_body_is_sent(client):
    read = []

    async def chunks():
        for _ in range(100):
            read.append(1)
            yield b"x" * (1 << 20)

    assert "at most" in refused(client.post(EVENTS, content=chunks()), 413)
    assert len(read) <= LARGEST // (1 << 20) + 2
    assert "at most" in refused(client.post(EVENTS, content=b"x" * (LARGEST + 1)), 413)
    refused(client.post(EVENTS, content=b"{}", headers={"content-length": "many"}), 413)
    refused(client.get(HOME + "?user_id=" + "x" * LONGEST), 414)


def test_no_key_id_or_query_is_logged(client, key_for, caplog):
    caplog.set_level("DEBUG")
    key, _ = key_for("read", "write", "admin")
    client.get("/api/v1/search", params={"q": "a secret wish", "user_id": "ann-of-green"}, **bearer(key))
    client.get("/api/v1/search", params={"q": "a secret wish", "user_id": "ann-of-green", "count": 0})
    client.send("DELETE", "/api/v1/users/ann-of-green", **bearer(key))
    theirs = ("httpx", "asyncio")
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith(theirs)]
    for private in (key, "secret wish", "ann-of-green"):
        assert not [text for text in ours if private in text]


def upnext(monkeypatch, home, *arguments):
    from click.testing import CliRunner

    monkeypatch.setenv("UPNEXT_HOME", str(home))
    return CliRunner().invoke(cli, arguments)


def test_keys_are_made_listed_and_revoked_by_command(client, server, monkeypatch):
    home = server.settings.home
    made = upnext(monkeypatch, home, "key", "create", "--name", "the app", "--scope", "read")
    key = made.stdout.strip()
    server.guard.refresh()
    assert client.get(HOME, **bearer(key)).status_code == 200
    listed = upnext(monkeypatch, home, "key", "list").stdout
    key_id = key.split("_")[1]
    assert key_id in listed and "the app" in listed and "valid" in listed
    assert key.rpartition("_")[2] not in listed
    (row,) = json.loads(upnext(monkeypatch, home, "key", "list", "--json").stdout)
    assert (row["key_id"], row["name"], row["scopes"], row["revoked_at"]) == (
        key_id,
        "the app",
        ["read"],
        None,
    )
    assert set(row) == {"key_id", "name", "scopes", "created_at", "revoked_at"}
    assert upnext(monkeypatch, home, "key", "revoke", key_id).exit_code == 0
    assert upnext(monkeypatch, home, "key", "revoke", key_id).exception.exit_code == 4
    assert "revoked" in upnext(monkeypatch, home, "key", "list").stdout
    server.guard.refresh()
    refused(client.get(HOME, **bearer(key)), 401)


def test_beyond_loopback_the_service_starts_with_a_key_or_when_told(bundle, tmp_path, monkeypatch, capsys):
    from serving import launch

    started = []
    monkeypatch.setattr(launch.os, "execve", lambda *told: started.append(told[2][launch.OPEN]))
    settings, folder = Settings(home=tmp_path), str(bundle.folder)
    for host in (ANYWHERE, "::", "upnext.example"):
        with pytest.raises(ConfigError, match="upnext key create"):
            launch.launch(settings, folder, host, 0)
    launch.launch(settings, folder, "127.0.0.1", 0)
    assert "There are no keys" in capsys.readouterr().err
    launch.launch(settings, folder, ANYWHERE, 0, opened=True)
    create_keys(settings)
    launch.launch(settings, folder, ANYWHERE, 0)
    assert started == ["1", "1", "0"]
    assert capsys.readouterr().err.count("There are no keys") == 1


def create_keys(settings):
    from upnext.stores import connect

    with connect(settings) as stores:
        return make_key(stores.keys, "read")


def test_while_keys_were_never_read_it_is_the_service_that_is_not_ready(server, client, key_for):
    key, _ = key_for("read")
    server.guard = Guard(server.stores.keys, open_without_keys=True)
    for headers in ({}, {"X-API-Key": key}):
        answer = client.get("/api/v1/recommendations/home", headers=headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    server.guard.refresh()
    assert client.get("/api/v1/recommendations/home", headers={"X-API-Key": key}).status_code == 200
