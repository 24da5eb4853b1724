"""Reading posts: everyone can read published ones, editors drafts as well."""

import uuid
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from frontispiece.posts.v1 import posts_pb2

from gateway.cache.answers import Answer
from gateway.context import AppContext, app_context
from gateway.middleware.access import is_editor, require_editor
from gateway.routes.dependencies import bearer
from gateway.routes.problems import READ, problems
from gateway.routes.reads import ReadRoute
from gateway.schemas import posts as schemas
from gateway.schemas.post_documents import post_document
from rpc import errors

router = APIRouter(prefix="/api/posts", tags=["posts"], route_class=ReadRoute)

Name = Annotated[str, Path(description="The slug or the id of the post.")]
Known = Annotated[str, Header(description="The etag that you have.")]

# Without the token all readers get the same response. With it drafts may be included.
PUBLIC = {"cache-control": "public, max-age=0, must-revalidate", "vary": "authorization"}
PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}

_OPTIONAL_TOKEN: dict[str, Any] = {"security": [{}, {"token": []}]}

CURRENT: dict[int | str, dict[str, Any]] = {304: {"description": "The etag is current."}}


@router.get(
    "",
    responses={**READ, **problems(401), **CURRENT},
    dependencies=[Depends(bearer)],
    openapi_extra=_OPTIONAL_TOKEN,
    response_model=schemas.PostList,
    summary="List posts",
)
async def list_posts(
    request: Request, query: Annotated[schemas.PostFilter, Query()], if_none_match: Known = ""
) -> Answer:
    """Posts, newest first. Only editors can list drafts."""
    if query.state != "published":
        require_editor()
    editor = is_editor()
    listed = await app_context(request).clients.posts.ListPosts(query.request())
    document = {
        "posts": [post_document(one, editor=editor) for one in listed.posts],
        "next_page_token": listed.next_page_token,
    }
    return Answer.json(document, PRIVATE if editor else PUBLIC)


@router.get(
    "/{post}",
    responses={
        **READ,
        **problems(401, 404),
        301: {"description": "The post has another slug now; `Location` has it."},
        **CURRENT,
    },
    dependencies=[Depends(bearer)],
    openapi_extra=_OPTIONAL_TOKEN,
    response_model=schemas.RenderedPost,
    summary="Read a post",
)
async def get_post(request: Request, post: Name, if_none_match: Known = "") -> Answer | Response:
    """A post by slug or id, with its text as HTML. Without the token a draft is not found."""
    editor = is_editor()
    found = await find_post(app_context(request), post, include_drafts=editor)
    if is_former_slug(post, found):
        return moved(found.slug, request)
    document = {**post_document(found, editor=editor), "html": found.html}
    return Answer.json(document, PRIVATE if editor else PUBLIC, found.etag)


async def find_post(app: AppContext, name: str, *, include_drafts: bool) -> posts_pb2.Post:
    """A post by id, else by slug, also a former one: a slug may look like an id. Raises NotFound."""
    if is_uuid(name):
        try:
            return await _get(app, posts_pb2.GetPostRequest(id=name, include_drafts=include_drafts))
        except errors.NotFound:
            pass
    return await _get(app, posts_pb2.GetPostRequest(slug=name, include_drafts=include_drafts))


def is_former_slug(name: str, found: posts_pb2.Post) -> bool:
    """Whether `name` found the post, but is neither its slug nor its id."""
    return name != found.slug and name.lower() != found.id


def moved(name: str, request: Request) -> Response:
    """The response that a path with another last part has the post, for ever. Its query is kept.

    The Location is relative: it is right under any host, and below any path that a proxy cuts off.
    """
    query = request.scope["query_string"].decode("latin-1")
    location = f"{name}?{query}" if query else name
    headers = {"location": location, "cache-control": "public, max-age=300"}
    return Response(status_code=301, headers=headers)


def is_uuid(value: str) -> bool:
    """Whether `value` is a UUID in its usual form."""
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


async def _get(app: AppContext, request: posts_pb2.GetPostRequest) -> posts_pb2.Post:
    try:
        return (await app.clients.posts.GetPost(request)).post
    except grpc.aio.AioRpcError as error:
        if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
            raise errors.NotFound("the post does not exist", reason="POST_NOT_FOUND") from None
        raise
