"""Posts: what editors do with them. gateway.routes.post_reads reads them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from frontispiece.posts.v1 import posts_pb2

from gateway.errors import FieldError, Problem
from gateway.routes.dependencies import EDITOR, Context, IfMatch, RequestId, tell_etag
from gateway.routes.post_reads import Name, find_post, is_uuid
from gateway.routes.problems import CHANGE, WRITE, created, problems, with_etag
from gateway.schemas import posts as schemas

router = APIRouter(prefix="/api/posts", tags=["posts"])

_CHANGE = {**CHANGE, **problems(404, 409, 412), **with_etag(200)}


async def _post_id(app: Context, post: Name) -> str:
    """The id of the post that the path names."""
    return post if is_uuid(post) else (await find_post(app, post, include_drafts=True)).id


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
