"""Posts: everyone can read published ones, editors can write."""

import uuid
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from frontispiece.posts.v1 import posts_pb2

from gateway.context import AppContext
from gateway.errors import FieldError, Problem
from gateway.middleware.access import is_editor, require_editor
from gateway.routes.dependencies import EDITOR, Context, IfMatch, RequestId, bearer, tell_etag
from gateway.routes.problems import CHANGE, READ, WRITE, created, problems, with_etag
from gateway.schemas import posts as schemas
from rpc import errors

router = APIRouter(prefix="/api/posts", tags=["posts"])

Name = Annotated[str, Path(description="The slug or the id of the post.")]

# Without the token all readers get the same response. With it drafts may be included.
_PUBLIC = {"cache-control": "public, max-age=0, must-revalidate", "vary": "authorization"}
_PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}

_OPTIONAL_TOKEN: dict[str, Any] = {"security": [{}, {"token": []}]}

_CHANGE = {**CHANGE, **problems(404, 409, 412), **with_etag(200)}


def _cache_headers(response: Response) -> None:
    response.headers.update(_PRIVATE if is_editor() else _PUBLIC)


@router.get(
    "",
    responses=READ | problems(401),
    dependencies=[Depends(bearer)],
    openapi_extra=_OPTIONAL_TOKEN,
    summary="List posts",
)
async def list_posts(
    app: Context, query: Annotated[schemas.PostFilter, Query()], response: Response
) -> schemas.PostList:
    """Posts, newest first. Only editors can list drafts."""
    if query.state != "published":
        require_editor()
    listed = await app.clients.posts.ListPosts(query.request())
    _cache_headers(response)
    return schemas.PostList(
        posts=[schemas.post(one, editor=is_editor()) for one in listed.posts],
        next_page_token=listed.next_page_token,
    )


@router.get(
    "/{post}",
    responses={**READ, **problems(401, 404), 304: {"description": "The etag is current."}},
    dependencies=[Depends(bearer)],
    openapi_extra=_OPTIONAL_TOKEN,
    response_model=schemas.Post,
    summary="Read a post",
)
async def get_post(
    app: Context,
    post: Name,
    response: Response,
    if_none_match: Annotated[str, Header(description="The etag that you have.")] = "",
) -> schemas.Post | Response:
    """A post by slug or id. Without the token a draft is not found."""
    found = await find_post(app, post, include_drafts=is_editor())
    _cache_headers(response)
    response.headers["etag"] = found.etag
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    if found.etag in tags:
        return Response(status_code=304, headers=dict(response.headers))
    return schemas.post(found, editor=is_editor())


async def find_post(app: AppContext, name: str, *, include_drafts: bool) -> posts_pb2.Post:
    """A post by id, else by slug: a slug may look like an id. Raises NotFound."""
    if _is_uuid(name):
        try:
            return await _get(app, posts_pb2.GetPostRequest(id=name, include_drafts=include_drafts))
        except errors.NotFound:
            pass
    return await _get(app, posts_pb2.GetPostRequest(slug=name, include_drafts=include_drafts))


def _is_uuid(value: str) -> bool:
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


async def _post_id(app: Context, post: Name) -> str:
    """The id of the post that the path names."""
    return post if _is_uuid(post) else (await find_post(app, post, include_drafts=True)).id


PostId = Annotated[str, Depends(_post_id)]


@router.post(
    "",
    status_code=201,
    responses={**WRITE, **problems(409), **created("the post")},
    dependencies=EDITOR,
    summary="Create a post",
)
async def create_post(app: Context, body: schemas.NewPost, request_id: RequestId, response: Response) -> schemas.Post:
    """Create a post with an image that is already stored."""
    request = posts_pb2.CreatePostRequest(request_id=request_id)
    body.fill(request)
    made = (await app.clients.posts.CreatePost(request)).post
    response.headers["location"] = f"/api/posts/{made.slug}"
    return _written(made, response)


@router.patch("/{post}", responses=_CHANGE | problems(400), dependencies=EDITOR, summary="Change a post")
async def update_post(
    app: Context, post_id: PostId, body: schemas.PostChange, response: Response, etag: IfMatch
) -> schemas.Post:
    """Change the fields that the body contains."""
    if not body.model_fields_set:
        message = "must have at least one field"
        raise Problem(422, "INVALID_ARGUMENT", f"the body {message}", [FieldError("", message)])
    request = posts_pb2.UpdatePostRequest(id=post_id, etag=etag)
    body.fill(request)
    request.update_mask.paths.extend(sorted(body.model_fields_set))
    return _written((await app.clients.posts.UpdatePost(request)).post, response)


@router.post("/{post}/publish", responses=_CHANGE, dependencies=EDITOR, summary="Publish a post")
async def publish_post(app: Context, post_id: PostId, response: Response, etag: IfMatch) -> schemas.Post:
    """Publish a draft. A published post stays as it is."""
    request = posts_pb2.PublishPostRequest(id=post_id, etag=etag)
    return _written((await app.clients.posts.PublishPost(request)).post, response)


@router.post("/{post}/unpublish", responses=_CHANGE, dependencies=EDITOR, summary="Unpublish a post")
async def unpublish_post(app: Context, post_id: PostId, response: Response, etag: IfMatch) -> schemas.Post:
    """Turn a published post back into a draft."""
    request = posts_pb2.UnpublishPostRequest(id=post_id, etag=etag)
    return _written((await app.clients.posts.UnpublishPost(request)).post, response)


@router.delete(
    "/{post}",
    status_code=204,
    responses=CHANGE | problems(404, 409, 412),
    dependencies=EDITOR,
    summary="Delete a post",
)
async def delete_post(app: Context, post_id: PostId, etag: IfMatch) -> None:
    """Delete a post. Its image is kept."""
    await app.clients.posts.DeletePost(posts_pb2.DeletePostRequest(id=post_id, etag=etag))


def _written(post: posts_pb2.Post, response: Response) -> schemas.Post:
    """The answer to a write."""
    tell_etag(response, post.etag)
    return schemas.post(post, editor=True)
