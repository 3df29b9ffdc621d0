"""The people who watch."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.access import needs
from serving.api.contract import json_body, listed, problems, ref
from serving.api.errors import json_of
from serving.api.running import Running
from serving.api.upserts import document, upsert
from serving.erasure import ErasureReceipt
from serving.resources import MOST, Upsert
from upnext.contracts import Id, User
from upnext.keys import Scope

UserId = Annotated[Id, Path(description="The platform's id of the user, or of an anonymous session.")]


def router(server: Running) -> APIRouter:
    """``/api/v1/users…``."""
    routes = APIRouter(prefix="/api/v1", tags=["users"])
    read, write = [needs(Scope.READ, server)], [needs(Scope.WRITE, server)]

    @routes.post(
        "/users:bulk",
        dependencies=write,
        response_model=Upsert,
        responses=problems(body=True),
        openapi_extra=json_body(listed("User", MOST)),
    )
    async def put_users(request: Request) -> Response:
        """Write up to 1,000 users, each as PUT does; each is taken or refused on its own."""
        return await upsert(request, server().users)

    @routes.get("/users/{user_id:path}", dependencies=read, response_model=User, responses=problems(404))
    def get_user(user_id: UserId) -> Response:
        """The profile of a user."""
        return document(server().users.get(user_id))

    @routes.put(
        "/users/{user_id:path}",
        dependencies=write,
        response_model=User,
        responses={201: {"model": User, "description": "It is new"}, **problems(body=True)},
        openapi_extra=json_body(ref("UserBody")),
    )
    async def put_user(user_id: UserId, request: Request) -> Response:
        """Write a profile as a whole; the next feed follows it."""
        made, new = await run_in_threadpool(server().users.put, user_id, await json_of(request))
        return document(made, 201 if new else 200)

    @routes.patch(
        "/users/{user_id:path}",
        dependencies=write,
        response_model=User,
        responses=problems(404, body=True),
        openapi_extra=json_body(ref("UserPatch"), media_type="application/merge-patch+json"),
    )
    async def patch_user(user_id: UserId, request: Request) -> Response:
        """Change some fields of a profile, as RFC 7396 says: null takes a field away."""
        return document(await run_in_threadpool(server().users.patch, user_id, await json_of(request)))

    @routes.delete(
        "/users/{user_id:path}",
        dependencies=[needs(Scope.ADMIN, server)],
        response_model=ErasureReceipt,
        responses=problems(),
    )
    def erase_user(user_id: UserId) -> ErasureReceipt:
        """Erase a person from every store, the lake too, and give a receipt. Done again, it finds nothing."""
        return server().erase(user_id)

    return routes
