"""The catalogue."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import json_body, listed, problems, ref
from serving.api.errors import json_of
from serving.api.running import Running
from serving.api.upserts import document, upsert
from serving.resources import MOST, Upsert
from upnext.contracts import Id, Video
from upnext.keys import Scope

VideoId = Annotated[Id, Path(description="The platform's id of the video.")]


def router(server: Running) -> APIRouter:
    """``/api/v1/videos…``."""
    routes = APIRouter(prefix="/api/v1", tags=["videos"])
    read, write = [needs(Scope.READ, server)], [needs(Scope.WRITE, server)]

    @routes.post(
        "/videos:bulk",
        dependencies=write,
        response_model=Upsert,
        responses=problems(body=True),
        openapi_extra=json_body(listed("Video", MOST)),
    )
    async def put_videos(request: Request) -> Response:
        """Write up to 1,000 videos, each as PUT does; each is taken or refused on its own."""
        return await upsert(request, server().videos)

    @routes.get("/videos/{video_id:path}", dependencies=read, response_model=Video, responses=problems(404))
    def get_video(video_id: VideoId) -> Response:
        """What the catalogue holds of a video; one that was deleted is not found."""
        return document(server().videos.get(video_id))

    @routes.put(
        "/videos/{video_id:path}",
        dependencies=write,
        response_model=Video,
        responses={201: {"model": Video, "description": "It is new"}, **problems(body=True)},
        openapi_extra=json_body(ref("VideoBody")),
    )
    async def put_video(video_id: VideoId, request: Request) -> Response:
        """Write a video as a whole. One with the status blocked or deleted is shown no more from now on."""
        made, new = await run_in_threadpool(server().videos.put, video_id, await json_of(request))
        return document(made, 201 if new else 200)

    @routes.patch(
        "/videos/{video_id:path}",
        dependencies=write,
        response_model=Video,
        responses=problems(404, body=True),
        openapi_extra=json_body(ref("VideoPatch"), media_type="application/merge-patch+json"),
    )
    async def patch_video(video_id: VideoId, request: Request) -> Response:
        """Change some fields of a video, as RFC 7396 says: null takes a field away."""
        return document(await run_in_threadpool(server().videos.patch, video_id, await json_of(request)))

    @routes.delete("/videos/{video_id:path}", dependencies=write, status_code=204, responses=problems(404))
    def delete_video(video_id: VideoId) -> Response:
        """Take a video out of every feed, from now on."""
        server().videos.patch(video_id, {"status": "deleted"})
        return Response(status_code=204)

    return routes
