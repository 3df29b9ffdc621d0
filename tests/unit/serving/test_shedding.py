"""Under too much load some are answered in time and the others refused at once, each in its lane."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serving import shedding
from serving.rules import Limits
from serving.shedding import EVENTS, FIRST, LEAST, MOST, AdaptiveLane, Lane, Lanes, Shedding
from upnext.errors import ReleaseError

HOME, SEARCH = "/api/v1/recommendations/home", "/api/v1/search"
EVENT, USER = "/api/v1/events/engagement", "/api/v1/users/ann"


def lane(places=2, wait_s=30.0):
    return Lane(places, lambda: wait_s)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_those_who_wait_get_places_in_their_order():
    async def run():
        made, entered = lane(1), []

        async def ask(name):
            entered.append((name, await made.enter()))

        await ask("first")
        waiting = []
        for number, name in enumerate(["second", "third"], 1):
            waiting.append(asyncio.create_task(ask(name)))
            await until(lambda number=number: len(made._waiting) == number)
        assert entered == [("first", True)]
        made.leave()
        await waiting[0]
        made.leave()
        await waiting[1]
        assert entered == [("first", True), ("second", True), ("third", True)]
        made.leave()
        assert (made.taken, made.shed) == (0, 0)

    asyncio.run(run())


def test_who_gets_no_place_in_time_is_shed_and_takes_none():
    async def run():
        made = lane(1, wait_s=0.01)
        assert await made.enter()
        assert not await made.enter()
        assert made.shed == 1
        made.leave()
        assert made.taken == 0
        assert await made.enter()

    asyncio.run(run())


def test_only_so_many_may_wait(monkeypatch):
    monkeypatch.setattr(shedding, "WAITING", 1)

    async def run():
        made = lane(1)
        await made.enter()
        waits = asyncio.create_task(made.enter())
        await until(lambda: len(made._waiting) == 1)
        assert not await made.enter()
        made.leave()
        assert await waits

    asyncio.run(run())


def test_a_client_who_goes_away_while_it_waits_holds_no_place():
    async def run():
        made = lane(1)
        await made.enter()
        gone, given = (asyncio.create_task(made.enter()) for _ in range(2))
        await until(lambda: len(made._waiting) == 2)
        gone.cancel()
        await until(gone.done)
        made.leave()
        given.cancel()  # in the moment in which it has got its place
        await until(given.done)
        assert made.taken == 0

    asyncio.run(run())


def test_places_follow_from_how_long_answers_take(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(shedding, "monotonic", lambda: now[0])
    made = AdaptiveLane(lambda: 0.060, lambda: 0.03)
    made.taken = FIRST
    for _ in range(FIRST):
        made.observe(0.010)
    assert FIRST < made.places <= FIRST + 1  # one more for a round with every place taken
    made.taken = 1
    made.observe(0.010)
    grown = made.places
    assert grown <= FIRST + 1  # places that nobody asked for say nothing
    made.observe(0.100)
    assert made.places == pytest.approx(0.9 * grown)
    made.observe(0.100)  # it began before the cut
    assert made.places == pytest.approx(0.9 * grown)
    for _ in range(100):
        now[0] += 1
        made.observe(0.100)
    assert made.places == LEAST
    for _ in range(1_000):
        made.taken = int(made.places)
        made.observe(0.010)
    assert made.places == MOST


def test_the_lanes_together_leave_threads_for_probes_and_figures():
    assert MOST + EVENTS + shedding.DOCUMENTS < 40  # anyio's


class Held:
    """An app whose answers wait until they are let go."""

    def __init__(self):
        self.begun, self.go = [], asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.begun.append(scope["path"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(registry, limits):
    app = Held()
    lanes = Lanes(lambda: limits, registry)
    transport = httpx.ASGITransport(Shedding(app, lambda: lanes))
    async with httpx.AsyncClient(transport=transport, base_url="http://upnext") as client:
        yield app, client


def test_feeds_beyond_their_places_get_503_and_the_other_lanes_go_on():
    registry = CollectorRegistry()

    def figure(name, lane):
        return registry.get_sample_value(name, {"lane": lane})

    async def run():
        async with serving(registry, Limits(queue_s=0.01)) as (app, client):
            held = [asyncio.create_task(client.get(HOME)) for _ in range(FIRST)]
            await until(lambda: len(app.begun) == FIRST)
            refused = await client.get(SEARCH)
            assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["status"] == 503 and "not begun" in refused.json()["detail"]
            others = [asyncio.create_task(client.get(path)) for path in (EVENT, USER, "/healthz")]
            await until(lambda: len(app.begun) == FIRST + 3)
            assert app.begun[FIRST:] == [EVENT, USER, "/healthz"]
            assert figure("upnext_lane_taken", "feeds") == figure("upnext_lane_places", "feeds") == FIRST
            app.go.set()
            answers = await asyncio.gather(*held, *others, client.get(HOME))
            assert {answer.status_code for answer in answers} == {200}
            assert figure("upnext_lane_taken", "feeds") == 0
            shed = {lane: figure("upnext_requests_shed_total", lane) for lane in ("feeds", "events")}
            assert shed == {"feeds": 1, "events": 0}

    asyncio.run(run())


def test_events_that_find_no_place_are_told_and_counted(monkeypatch):
    monkeypatch.setattr(shedding, "PATIENCE_S", 0.01)
    registry = CollectorRegistry()

    async def run():
        async with serving(registry, Limits()) as (app, client):
            held = [asyncio.create_task(client.post(EVENT)) for _ in range(EVENTS)]
            await until(lambda: len(app.begun) == EVENTS)
            refused = await client.post(EVENT)
            assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
            app.go.set()
            await asyncio.gather(*held)

    asyncio.run(run())
    assert registry.get_sample_value("upnext_requests_shed_total", {"lane": "events"}) == 1


def test_before_there_are_lanes_requests_pass():
    async def run():
        app = Held()
        app.go.set()

        def starting():
            raise ReleaseError("the service is starting")

        transport = httpx.ASGITransport(Shedding(app, starting))
        async with httpx.AsyncClient(transport=transport, base_url="http://upnext") as client:
            assert (await client.get(HOME)).status_code == 200

    asyncio.run(run())


def test_the_served_app_sheds_before_it_looks_at_a_request(server, client):
    server.lanes.by_name["feeds"].places = 0
    server.releases.config = type(server.releases.config)(limits=Limits(queue_s=0.01))
    answer = client.get(HOME + "?count=none")  # which would be 422
    assert answer.status_code == 503
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert 'upnext_requests_shed_total{lane="feeds"} 1.0' in client.get("/metrics").text
