"""What all feeds and shelves share: their parameters, pages, and the answer."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.responses import Response

from serving import documents
from serving.answer import Answer
from serving.clock import wall_clock
from serving.engine import Engine
from serving.impressions import Shown
from serving.paging import FIRST, LONGEST, Page
from serving.server import Server
from upnext.contracts import Id, Token

LEFT_OUT = 100
"""Ids in ``exclude`` at most."""
OptionalId = Id | None
OptionalToken = Token | None


class Asked(BaseModel):
    """Parameters that every feed takes."""

    model_config = ConfigDict(extra="forbid")

    user_id: OptionalId = Field(
        None, description="Who watches; one whom nobody knows gets a cold-start feed, not an error."
    )
    session_id: OptionalId = Field(
        None, description="The client's session; stands in for user_id where there is none."
    )
    count: int = Field(20, ge=1, le=200, description="Items wanted.")
    exclude: list[Id] = Field(
        [], max_length=LEFT_OUT, description="Ids of videos to leave out; may be repeated."
    )
    cursor: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = Field(
        None, description="next_cursor of the page before: goes on with videos that were not shown yet."
    )
    region: OptionalToken = Field(None, description="Where the viewer is; wins over the profile.")
    device: OptionalToken = Field(None, description="What the viewer watches on; wins over the profile.")
    debug: bool = Field(False, description="Add timings, candidate counts, skipped parts and heads.")

    @property
    def viewer(self) -> str | None:
        return self.user_id or self.session_id

    @property
    def context(self) -> dict[str, str | None]:
        """What wins over the profile."""
        return {"region": self.region, "device": self.device}


Ask = Callable[[Engine, Page], Answer]


def respond(running: Server, surface: str, asked: Asked, ask: Ask, about: str | None = None) -> Response:
    """One page of a feed as JSON; what it showed is logged once the answer has left."""
    start, at = perf_counter(), wall_clock()
    feed: Sequence[str | None] = (surface, asked.user_id, asked.session_id, asked.region, about)
    page = running.pager.read(asked.cursor, feed) if asked.cursor else FIRST
    answer = ask(running.engine, Page(asked.exclude, page.shown, page.seed))
    shown = documents.ids(answer)
    more = len(shown) + len(answer.ads) == asked.count
    cursor = running.pager.write(page, shown, feed) if more else None
    took = perf_counter() - start
    body = orjson.dumps(documents.recommendation(answer, 1e3 * took, asked.debug, cursor))
    running.telemetry.seconds.labels(surface).observe(took)
    impressions = documents.shown(answer, asked.session_id, at, asked.viewer)
    return Response(
        body, media_type="application/json", background=BackgroundTask(_log, running, impressions)
    )


async def _log(running: Server, impressions: Shown) -> None:
    """Hand on what was shown; a coroutine, since that waits for nothing and is not worth a thread."""
    running.impressions.put(impressions)
