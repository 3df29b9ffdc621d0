"""Load shedding: what cannot be answered soon is refused at once, before any work is done for it.

Requests are of lanes. Each lets so many in at a time; others wait a moment for a place, then get 503 with
Retry-After. What is let in is answered about as fast as without load, so the service does all the work that
it can, and none for clients who have given up.

feeds      as many as keep the time of an answer below ``limits.latency_s``: one more for each round that was
           below it with every place taken, a tenth fewer when one was above it (additive increase,
           multiplicative decrease, as TCP has it)
events     a fixed number; they wait longer, since an event that is not accepted may be lost for good
documents  a fixed number: videos and users
Probes, figures and the contract have no lane and are never shed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from serving.problems import problem
from serving.rules import Limits
from upnext.errors import ReleaseError

LEAST, FIRST, MOST = 1, 2, 12
"""Feeds at once: at least, at the start, at most. With the other lanes' they are fewer than the threads.
Where a feed is all computing, more at once only take the interpreter from one another."""
EVENTS, DOCUMENTS = 16, 8
"""Calls at once."""
PATIENCE_S = 2.0
"""Seconds that those wait for a place."""
WAITING = 256
"""Requests that wait for a place of one lane."""
CUT = 0.9
RETRY_S = "1"
PATHS = (
    ("/api/v1/recommendations/", "feeds"),
    ("/api/v1/search", "feeds"),
    ("/api/v1/events/", "events"),
    ("/api/v1/videos", "documents"),
    ("/api/v1/users", "documents"),
)


class Lane:
    """Places for requests of one kind, and those who wait for one. For one event loop, without locks."""

    def __init__(self, places: int, wait_s: Callable[[], float]) -> None:
        self.places = float(places)
        self.taken = self.shed = 0
        self._wait_s = wait_s
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def enter(self) -> bool:
        """Take a place, waiting for one if need be; False when there is none in time."""
        if self.taken < int(self.places):
            self.taken += 1
            return True
        if len(self._waiting) >= WAITING:
            self.shed += 1
            return False
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(place)
        over = loop.call_later(self._wait_s(), _give, place, False)
        try:
            got = await place
        except asyncio.CancelledError:  # the client has gone
            if place.done() and not place.cancelled() and place.result():
                self.leave()
            raise
        finally:
            over.cancel()
        self.shed += not got
        return got

    def leave(self) -> None:
        """Give a place back, to whoever has waited longest."""
        self.taken -= 1
        while self._waiting and (self._waiting[0].done() or self.taken < int(self.places)):
            if _give(self._waiting.popleft(), True):
                self.taken += 1

    def observe(self, seconds: float) -> None:
        """How long an answer took, from its place to its end."""


class AdaptiveLane(Lane):
    """One whose places follow from how long answers take."""

    def __init__(self, latency_s: Callable[[], float], wait_s: Callable[[], float]) -> None:
        super().__init__(FIRST, wait_s)
        self._latency_s = latency_s
        self._cut_at = -1.0

    def observe(self, seconds: float) -> None:
        if seconds <= self._latency_s():
            if self.taken >= int(self.places):
                self.places = min(MOST, self.places + 1 / self.places)
        elif (now := monotonic()) - self._cut_at > seconds:  # those under way then knew nothing of the cut
            self.places, self._cut_at = max(LEAST, CUT * self.places), now


class Lanes:
    """The lanes of a process, by path."""

    def __init__(self, limits: Callable[[], Limits], registry: CollectorRegistry) -> None:
        def patience() -> float:
            return PATIENCE_S

        self.by_name: dict[str, Lane] = {
            "feeds": AdaptiveLane(lambda: limits().latency_s, lambda: limits().queue_s),
            "events": Lane(EVENTS, patience),
            "documents": Lane(DOCUMENTS, patience),
        }
        registry.register(self)

    def of(self, path: str) -> Lane | None:
        return next((self.by_name[name] for prefix, name in PATHS if path.startswith(prefix)), None)

    def collect(self) -> Iterator[Metric]:
        """For Prometheus: places, those taken, and how many requests were shed."""
        places = GaugeMetricFamily("upnext_lane_places", "Requests let in at once", labels=["lane"])
        taken = GaugeMetricFamily("upnext_lane_taken", "Requests being answered", labels=["lane"])
        shed = CounterMetricFamily("upnext_requests_shed", "Requests refused under load", labels=["lane"])
        for name, lane in self.by_name.items():
            places.add_metric([name], int(lane.places))
            taken.add_metric([name], lane.taken)
            shed.add_metric([name], lane.shed)
        yield from (places, taken, shed)


class Shedding:
    """Lets requests through their lane into an ASGI app."""

    def __init__(self, app: Any, lanes: Callable[[], Lanes]) -> None:
        """``lanes`` raises ReleaseError while there are none yet, and all requests pass."""
        self._app, self._lanes = app, lanes
        told = "the service has more to do than it can: this request was not begun"
        self._refuse = problem(503, told, headers={"Retry-After": RETRY_S})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        lane = self._lane(scope["path"]) if scope["type"] == "http" else None
        if lane is None:
            await self._app(scope, receive, send)
        elif not await lane.enter():
            await self._refuse(scope, receive, send)
        else:
            await self._timed(lane, scope, receive, send)

    def _lane(self, path: str) -> Lane | None:
        try:
            return self._lanes().of(path)
        except ReleaseError:
            return None

    async def _timed(self, lane: Lane, scope: Any, receive: Any, send: Any) -> None:
        start, status = monotonic(), 0

        async def timing(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body") and status < 400:
                lane.observe(monotonic() - start)  # an error says nothing of how long answers take

        try:
            await self._app(scope, receive, timing)
        finally:
            lane.leave()


def _give(place: "asyncio.Future[bool]", got: bool) -> bool:
    """Tell who waits; False when they know already."""
    if place.done():
        return False
    place.set_result(got)
    return True
