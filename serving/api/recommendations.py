"""Feeds and shelves."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import problems
from serving.api.feeds import Asked, OptionalId, respond
from serving.api.running import Running
from upnext.contracts import Id, Recommendation, Token
from upnext.keys import Scope


class AskedHome(Asked):
    count: int = Field(30, ge=1, le=200, description="Items wanted.")


class AskedBeside(Asked):
    video_id: Id = Field(description="The video being watched.")


class AskedEndScreen(AskedBeside):
    count: int = Field(12, ge=1, le=200, description="Items wanted.")


class AskedBecause(Asked):
    video_id: OptionalId = Field(
        None, description="A video of the past; without it, the one that the viewer liked best lately."
    )


def router(server: Running) -> APIRouter:
    """``/api/v1/recommendations/…``."""
    routes = APIRouter(
        prefix="/api/v1/recommendations",
        tags=["recommendations"],
        dependencies=[needs(Scope.READ, server)],
        responses=problems(),
    )
    feed: dict[str, Any] = {"response_model": Recommendation}
    known: dict[str, Any] = feed | {"responses": problems(404)}

    @routes.get("/home", **feed)
    def home(asked: Annotated[AskedHome, Query()]) -> Response:
        """A personal feed, best first, each item with its reason. A stranger gets a cold-start feed."""
        return respond(
            server(),
            "home",
            asked,
            lambda engine, page: engine.home(asked.viewer, asked.count, page, **asked.context),
        )

    @routes.get("/related", **known)
    def related(asked: Annotated[AskedBeside, Query()]) -> Response:
        """What goes well after a video."""
        return respond(
            server(),
            "related",
            asked,
            lambda engine, page: engine.related(
                asked.video_id, asked.viewer, asked.count, page, **asked.context
            ),
            asked.video_id,
        )

    @routes.get("/end-screen", **known)
    def end_screen(asked: Annotated[AskedEndScreen, Query()]) -> Response:
        """What to offer when a video has ended: near the video, and to this viewer's taste."""
        return respond(
            server(),
            "end_screen",
            asked,
            lambda engine, page: engine.end_screen(
                asked.video_id, asked.viewer, asked.count, page, **asked.context
            ),
            asked.video_id,
        )

    @routes.get("/because-you-watched", **known)
    def because_you_watched(asked: Annotated[AskedBecause, Query()]) -> Response:
        """A shelf about one video of the viewer's past, which ``about`` names.

        Empty where nothing was watched yet: show the shelf only when it has items.
        """
        return respond(
            server(),
            "because_you_watched",
            asked,
            lambda engine, page: engine.because_you_watched(
                asked.video_id, asked.viewer, asked.count, page, **asked.context
            ),
            asked.video_id,
        )

    @routes.get("/topic/{topic:path}", **known)
    def topic(
        topic: Annotated[Token, Path(description="A category of the catalogue.")],
        asked: Annotated[Asked, Query()],
    ) -> Response:
        """The videos of one category, for this viewer."""
        return respond(
            server(),
            "topic",
            asked,
            lambda engine, page: engine.topic(topic, asked.viewer, asked.count, page, **asked.context),
            topic,
        )

    @routes.get("/new-releases", **feed)
    def new_releases(asked: Annotated[Asked, Query()]) -> Response:
        """The latest uploads, for this viewer."""
        return respond(
            server(),
            "new_releases",
            asked,
            lambda engine, page: engine.new_releases(asked.viewer, asked.count, page, **asked.context),
        )

    @routes.get("/trending", **feed)
    def trending(asked: Annotated[Asked, Query()]) -> Response:
        """What is watched most now, in a region or everywhere: the same for every viewer, less what the
        viewer's profile rules out."""
        return respond(
            server(),
            "trending",
            asked,
            lambda engine, page: engine.trending(
                asked.region, asked.viewer, asked.count, page, device=asked.device
            ),
        )

    return routes
