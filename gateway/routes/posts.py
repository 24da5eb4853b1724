"""Posts: what editors do with them. gateway.routes.post_reads reads them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from frontispiece.posts.v1 import posts_pb2

from gateway.errors import FieldError, Problem
from gateway.routes.dependencies import EDITOR, Context, RequestId
from gateway.routes.post_reads import Name, find_post, is_uuid
from gateway.routes.problems import WRITE, problems
from gateway.schemas import posts as schemas

router = APIRouter(prefix="/api/posts", tags=["posts"])


async def _post_id(app: Context, post: Name) -> str:
    """The id of the post that the path names."""
    return post if is_uuid(post) else (await find_post(app, post, include_drafts=True)).id


PostId = Annotated[str, Depends(_post_id)]


@router.post("", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Create a post")
async def create_post(app: Context, body: schemas.NewPost, request_id: RequestId, response: Response) -> schemas.Post:
    """Create a post with an image that is already stored."""
    request = posts_pb2.CreatePostRequest(request_id=request_id)
    body.fill(request)
    created = (await app.clients.posts.CreatePost(request)).post
    response.headers["location"] = f"/api/posts/{created.slug}"
    response.headers["etag"] = created.etag
    return schemas.post(created, editor=True)


@router.patch("/{post}", responses=WRITE | problems(404, 409, 412), dependencies=EDITOR, summary="Change a post")
async def update_post(
    app: Context,
    post_id: PostId,
    body: schemas.PostChange,
    response: Response,
    if_match: Annotated[str, Header(description="The etag that you have. The change is refused if it is old.")] = "",
) -> schemas.Post:
    """Change the fields that the body contains."""
    if not body.model_fields_set:
        message = "must have at least one field"
        raise Problem(422, "INVALID_ARGUMENT", f"the body {message}", [FieldError("", message)])
    etag = "" if if_match.strip() == "*" else if_match.strip().removeprefix("W/")
    request = posts_pb2.UpdatePostRequest(id=post_id, etag=etag)
    body.fill(request)
    request.update_mask.paths.extend(sorted(body.model_fields_set))
    updated = (await app.clients.posts.UpdatePost(request)).post
    response.headers["etag"] = updated.etag
    return schemas.post(updated, editor=True)


@router.post("/{post}/publish", responses=WRITE | problems(404), dependencies=EDITOR, summary="Publish a post")
async def publish_post(app: Context, post_id: PostId) -> schemas.Post:
    """Publish a draft."""
    response = await app.clients.posts.PublishPost(posts_pb2.PublishPostRequest(id=post_id))
    return schemas.post(response.post, editor=True)


@router.post("/{post}/unpublish", responses=WRITE | problems(404), dependencies=EDITOR, summary="Unpublish a post")
async def unpublish_post(app: Context, post_id: PostId) -> schemas.Post:
    """Turn a published post back into a draft."""
    response = await app.clients.posts.UnpublishPost(posts_pb2.UnpublishPostRequest(id=post_id))
    return schemas.post(response.post, editor=True)


@router.delete(
    "/{post}", status_code=204, responses=WRITE | problems(404), dependencies=EDITOR, summary="Delete a post"
)
async def delete_post(app: Context, post_id: PostId) -> None:
    """Delete a post. Its image is kept."""
    await app.clients.posts.DeletePost(posts_pb2.DeletePostRequest(id=post_id))
