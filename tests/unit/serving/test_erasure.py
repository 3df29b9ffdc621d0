"""A person is erased from every store, with a receipt, for good."""

import re
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from click.testing import CliRunner

from components import feature_log
from components.ingest import ingest
from feature_repo.specs import USER_STREAM, USER_VIEW
from tests.contract.test_experiments import experiment
from tests.contract.test_feature_log import answer
from tests.unit.serving.test_api import event, now
from upnext.cli.main import cli
from upnext.contracts import EVENTS, QUARANTINE, USERS
from upnext.erased import Erased
from upnext.errors import StoreUnavailable
from upnext.experiments import parse
from upnext.sources import open_source
from upnext.sources.log import LogSource

HOME, LOG = "/api/v1/recommendations/home", "/api/v1/events/engagement"
PART = "brien"
"""Of ``WHO``, without what a text that quotes it would escape."""
WHO = f"o'{PART} \"%_"


def rows(count, user, **more):
    given = {"user_id": user, "event_type": "like", "video_id": "v1"} | more
    made = [{"event_id": f"{user}-{place}", "timestamp": place} | given for place in range(count)]
    return pa.Table.from_pylist(made, schema=EVENTS)


@pytest.fixture
def person(client, server):
    """Somebody of whom every store knows something; and somebody else."""
    stores = server.stores
    for user in (WHO, "bob"):
        stores.profiles.put(pa.Table.from_pylist([{"user_id": user, "region": "SE"}], schema=USERS))
        client.post(LOG, json=[event("v003", user_id=user), event("v004", user_id=user)])
        stores.online_features.put(f"{USER_VIEW}@oldlayout", [user], [b"x"])
        stores.online_features.put(f"{USER_VIEW}@newlayout", [user], [b"x"])
        stores.online_features.put("video_features@x", [user], [b"x"])
        for table in ("events", "outcomes"):
            stores.lake.append(table, rows(3, user))
    refused = [{"table": "events", "reason": "r", "source": "s", "row": '{"user_id":"o\'brien \\"%_"}'}]
    stores.lake.append("quarantine", pa.Table.from_pylist(refused, schema=QUARANTINE))
    stores.experiments.put(experiment(overrides={WHO: "a", "bob": "b"}))
    client.get(HOME, params={"user_id": WHO, "count": 4})  # its impressions wait
    return client


def erase(client):
    from urllib.parse import quote

    return client.send("DELETE", f"/api/v1/users/{quote(WHO, safe='')}")


def known(server, user):
    """In how many places something of a user is found."""
    stores = server.stores
    server.impressions.flush()
    events = stores.event_log.read().events["user_id"].to_pylist()
    lake = [row["user_id"] for name in ("events", "outcomes") for row in stores.lake.read(name).to_pylist()]
    return {
        "profiles": stores.profiles.get(user) is not None,
        "event_log": events.count(user),
        "history": stores.history.recent(user, server.engine.current.clock.now()).num_rows,
        "features": sum(
            stores.online_features.get(view, [user]) != [None]
            for view in stores.online_features.views()
            if view.startswith(USER_VIEW)
        ),
        "lake": lake.count(user),
    }


def test_a_person_is_erased_from_every_store_and_nobody_else_is(person, server):
    receipt = erase(person)
    assert receipt.status_code == 200, receipt.text
    removed = {
        "impressions": 4,
        "history": 2,
        "profiles": 1,
        "experiments": 1,
        "event_log": 2,
        "online_features": 2,
        "lake": 7,
    }
    assert receipt.json()["removed"].items() >= removed.items()
    assert not any(known(server, WHO).values())
    assert server.stores.online_features.get("video_features@x", [WHO]) == [b"x"], "a video of that name"
    assert known(server, "bob") == {"profiles": True, "event_log": 2, "history": 2, "features": 2, "lake": 6}


def naming(server, user):
    """The kinds of files in which an id, or a part of one, stands."""
    files = [path for path in server.settings.state.rglob("*") if path.is_file()]
    parquet = [path for path in files if path.suffix == ".parquet"]
    sqlite = [path for path in files if path.name.endswith((".db", ".db-wal"))]
    tables = {path.suffix for path in parquet if user in str(pa.parquet.read_table(path).to_pylist())}
    commits = [path for path in files if path.parent.name == "_delta_log"]
    return tables | {path.suffix for path in sqlite + commits if user.encode() in path.read_bytes()}


def test_nothing_of_a_person_is_left_in_any_file(person, server):
    assert naming(server, PART) >= {".parquet", ".db-wal"}
    erase(person)
    assert naming(server, PART) == set()
    assert naming(server, "bob") >= {".parquet", ".db"}


def test_a_repeated_erasure_says_that_there_was_nothing(person):
    first, second = erase(person).json(), erase(person).json()
    assert set(second["removed"].values()) == {0} and second["removed"].keys() == first["removed"].keys()
    assert first["erasure_id"] != second["erasure_id"]
    assert erase(person).status_code == 200


def test_a_request_in_flight_does_not_fail_and_leaves_nothing(person, server):
    from serving import documents
    from serving.clock import wall_clock

    start = wall_clock()
    answer = server.engine.home(WHO, 5)
    erase(person)
    server.impressions.put(documents.shown(answer, None, start))
    assert not any(known(server, WHO).values())


def test_what_is_from_before_the_erasure_is_not_taken_in_again(person, server):
    old = now(seconds=-1)
    erase(person)
    answer = person.post(LOG, json=[event(user_id=WHO, timestamp=old), event(user_id="bob")]).json()
    assert answer["accepted"] == 1
    assert "before the user was erased" in answer["refused"][0]["errors"][0]["reason"]
    back = person.post(LOG, json=event(user_id=WHO, timestamp=now(seconds=1)))
    assert back.json()["accepted"] == 1, "who comes back is a new user"


def test_a_batch_read_before_the_erasure_does_not_bring_the_person_back(client, server):
    """The log: source holds its batch while the person is erased."""
    client.post(LOG, json=[event("v003", user_id=user) for user in (WHO, "bob")])
    client.send("PUT", "/api/v1/users/bob", json={"region": "SE"})
    source = open_source("log:", server.settings)
    batch = list(source.events())
    source.events = lambda since=None: iter(batch)
    assert erase(client).status_code == 200
    erased = Erased.read(server.stores.erasures, server.settings)
    ingest(source, server.stores.lake, erased=lambda: erased)
    lake = server.stores.lake
    assert lake.read("events")["user_id"].to_pylist() == ["bob"]
    assert [(row["user_id"], row["region"]) for row in lake.read("users").to_pylist()] == [("bob", "SE")]


def test_a_person_erased_while_an_ingest_runs_does_not_come_back_with_a_later_batch(
    client, server, monkeypatch
):
    monkeypatch.setattr("components.ingest.FLUSH_ROWS", 1)  # each batch is taken in as it comes
    lake, source = server.stores.lake, open_source("log:", server.settings)
    before, taken = server.users.now() - timedelta(seconds=1), []

    def events(since=None):
        yield rows(1, WHO, event_id="early", timestamp=before)
        taken.extend(lake.read("events")["event_id"].to_pylist())
        assert erase(client).status_code == 200
        late = rows(1, WHO, event_id="late", timestamp=before)
        yield pa.concat_tables([late, rows(1, "bob", timestamp=before)])

    source.events = events
    ingest(source, lake, erased=lambda: Erased.read(server.stores.erasures, server.settings))
    assert taken == ["early"]
    assert lake.read("events")["user_id"].to_pylist() == ["bob"]


def test_logged_features_do_not_flow_back_into_the_lake_or_the_log(person, server, monkeypatch):
    stores = server.stores
    forget, tables = stores.feature_log.forget, stores.lake.tables
    under_way = [LogSource("", server.settings)]
    stores.feature_log.append(pa.concat_tables([answer(1, user_id=WHO), answer(2, user_id="bob")]))

    def after_an_ingest(user_id):
        while under_way:
            feature_log.bring_in(under_way.pop(), stores.lake, datetime(2020, 1, 1, tzinfo=UTC))
        return forget(user_id)

    def after_an_answer():
        stores.feature_log.append(answer(3, user_id=WHO))
        return tables()

    monkeypatch.setattr(stores.feature_log, "forget", after_an_ingest)
    monkeypatch.setattr(stores.lake, "tables", after_an_answer)
    assert erase(person).json()["removed"]["feature_log"] == 2
    assert set(stores.lake.read(feature_log.TABLE)["user_id"].to_pylist()) == {"bob"}
    assert set(stores.feature_log.read().rows["user_id"].to_pylist()) == {"bob"}


def test_the_register_holds_no_id(person, server):
    erase(person)
    (pseudonym,) = server.stores.erasures.all()
    assert re.fullmatch("[0-9a-f]{64}", pseudonym)
    other = server.settings.model_copy(update={"home": server.settings.home / "other"})
    assert Erased.read(server.stores.erasures, other).at(WHO) is None, "another secret, another pseudonym"


def test_a_store_that_is_away_fails_the_call_and_a_second_one_finishes(person, server, monkeypatch):
    def away(user_id):
        raise StoreUnavailable("the profiles are away")

    with monkeypatch.context() as patched:
        patched.setattr(server.stores.profiles, "forget", away)
        assert erase(person).status_code == 503
    assert erase(person).status_code == 200
    assert not any(known(server, WHO).values())


def test_a_writer_that_comes_between_is_waited_for(person, server, monkeypatch):
    delete, calls = server.stores.lake.delete, []

    def contended(table, where):
        calls.append(table)
        if calls.count(table) == 1:
            raise StoreUnavailable("written by another at the same time")
        return delete(table, where)

    monkeypatch.setattr(server.stores.lake, "delete", contended)
    assert erase(person).json()["removed"]["lake"] == 7


def test_the_command_does_the_same(person, server, monkeypatch):
    monkeypatch.setenv("UPNEXT_HOME", str(server.settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", "tiny")
    server.impressions.flush()
    told = CliRunner().invoke(cli, ["forget", WHO])
    assert told.exit_code == 0 and "lake             7" in told.stdout
    assert not any(known(server, WHO).values())
    assert '"lake":0' in CliRunner().invoke(cli, ["forget", WHO, "--json"]).stdout


@pytest.fixture
def remembered(server):
    """In how many of this process's memories a user is."""
    memories = (server.engine.shown, server.engine.streams.users, server.engine.experiments)
    return lambda user: sum(user in memory.ids() for memory in memories)


def test_what_another_process_erased_is_forgotten_here(person, server, remembered, monkeypatch):
    variants = [
        {"name": "control", "weight": 0.5},
        {"name": "treatment", "weight": 0.5, "parameters": {"retrievers.new": 0.0}},
    ]
    given = {"name": "one", "layer": "one", "start": now(days=-1), "variants": variants}
    server.stores.experiments.put(parse(given))
    server.look_at_experiments()
    for user in (WHO, "bob"):
        person.get(HOME, params={"user_id": user, "count": 4})
    server.impressions.flush()
    person.post(LOG, json=event(user_id="bob"))  # the impressions are applied with it
    server.engine.publisher().publish()
    assert remembered(WHO) == remembered("bob") == 3

    monkeypatch.setenv("UPNEXT_HOME", str(server.settings.home))
    monkeypatch.setenv("UPNEXT_DATASET", "tiny")
    assert CliRunner().invoke(cli, ["forget", WHO]).exit_code == 0
    server.erasures.once()
    assert (remembered(WHO), remembered("bob"), server.trouble) == (0, 3, {})
    server.engine.publisher().publish()
    store = server.stores.online_features
    (view,) = (view for view in store.views() if view.startswith(f"{USER_STREAM.name}@"))
    gone, kept = store.get(view, [WHO, "bob"])
    assert gone is None and kept is not None

    person.post(LOG, json=event(user_id=WHO, timestamp=now(seconds=1)))
    server.erasures.once()
    assert remembered(WHO) == 1, "who comes back is a new user, and is erased once"


def test_a_person_is_another_after_the_erasure(server):
    at = server.users.now()
    erased = server.erased.including("ann", at)
    told = rows(3, "ann", timestamp=at - timedelta(seconds=1))
    after = rows(1, "ann", timestamp=at + timedelta(seconds=1))
    table = pa.concat_tables([told, after, rows(2, "bob")])
    assert erased.without(table, "timestamp")["user_id"].to_pylist() == ["ann", "bob", "bob"]
    profiles = pa.Table.from_pylist([{"user_id": "ann"}, {"user_id": "bob"}], schema=USERS)
    assert erased.without(profiles, "created_at")["user_id"].to_pylist() == ["bob"]
