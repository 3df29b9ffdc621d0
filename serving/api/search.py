"""Search: the catalogue's words, each viewer's order, and a signal for the feeds that follow."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.background import BackgroundTasks
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import problems
from serving.api.feeds import Asked, respond
from serving.api.running import Running
from upnext.contracts import Query as Words
from upnext.contracts import Recommendation
from upnext.keys import Scope


class AskedSearch(Asked):
    q: Words = Field(description="What is searched for: words of titles, tags and categories.")


def router(server: Running) -> APIRouter:
    """``/api/v1/search``."""
    routes = APIRouter(
        prefix="/api/v1", tags=["search"], dependencies=[needs(Scope.READ, server)], responses=problems()
    )

    @routes.get("/search", response_model=Recommendation)
    def search(asked: Annotated[AskedSearch, Query()]) -> Response:
        """Videos that match, those that this viewer likes first among equals; nothing else fills the page.

        The first page counts as a search event of the user, or of the session, once the answer has left.
        """
        running = server()
        answer = respond(
            running,
            "search",
            asked,
            lambda engine, page: engine.search(asked.q, asked.viewer, asked.count, page, **asked.context),
            asked.q,
        )
        if asked.viewer and not asked.cursor:
            tasks = BackgroundTasks([answer.background] if answer.background else None)
            tasks.add_task(
                running.searched, asked.viewer, asked.q, asked.session_id, asked.device, asked.region
            )
            answer.background = tasks
        return answer

    return routes
