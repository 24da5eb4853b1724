"""Posts: everybody reads the published ones, editors write."""

from typing import Annotated, Literal

import grpc
from fastapi import APIRouter, Depends, Header, Path, Query, Response
from frontispiece.posts.v1 import posts_pb2
from pydantic import BaseModel, ConfigDict, Field

from gateway.auth import is_editor, require_editor
from gateway.errors import FieldError, Problem
from gateway.messages import posts as messages
from gateway.routes.responses import EDITOR, READ, WRITE, RequestId, bearer, problems
from gateway.schemas import posts as schemas
from gateway.schemas.text import MAX_QUERY, Line, is_uuid
from gateway.state import Gateway, gateway
from rpc import errors

router = APIRouter(prefix="/api/posts", tags=["posts"])

Here = Annotated[Gateway, Depends(gateway)]
Name = Annotated[str, Path(description="The post's slug or id.", max_length=200)]

# Readers without the token share one answer; with it there may be drafts.
_PUBLIC = {"cache-control": "public, max-age=0, must-revalidate", "vary": "authorization"}
_PRIVATE = {"cache-control": "private, no-store", "vary": "authorization"}


class PostFilter(BaseModel):
    """Which posts to list."""

    model_config = ConfigDict(extra="forbid")

    tag: Line = Field("", max_length=50, description="Only posts with this tag.")
    category: Line = Field("", max_length=100, description="Only posts in the category of this slug or id.")
    author: Line = Field("", max_length=100, description="Only posts by the author of this slug or id.")
    q: Line = Field("", max_length=MAX_QUERY, description="Only posts that contain all of these words.")
    state: Literal["published", "draft", "any"] = Field("published", description="`draft` and `any` need the token.")
    page_size: int = Field(20, ge=1, le=100, description="How many at most.")
    page_token: str = Field("", max_length=1000, description="`next_page_token` of the page before.")


_STATES = {
    "published": posts_pb2.POST_STATE_PUBLISHED,
    "draft": posts_pb2.POST_STATE_DRAFT,
    "any": posts_pb2.POST_STATE_UNSPECIFIED,
}


def _cache_headers(response: Response) -> None:
    response.headers.update(_PRIVATE if is_editor() else _PUBLIC)


@router.get("", responses=READ | problems(401), dependencies=[Depends(bearer)], summary="List posts")
async def list_posts(here: Here, query: Annotated[PostFilter, Query()], response: Response) -> schemas.PostList:
    """Posts, newest first; published ones unless an editor asks for others."""
    if query.state != "published":
        require_editor()
    answer = await here.clients.posts.ListPosts(
        posts_pb2.ListPostsRequest(
            page_size=query.page_size,
            page_token=query.page_token,
            state=_STATES[query.state],
            tag=query.tag,
            category=query.category,
            author=query.author,
            query=query.q,
        )
    )
    _cache_headers(response)
    return schemas.PostList(
        posts=[messages.post(one, editor=is_editor()) for one in answer.posts],
        next_page_token=answer.next_page_token,
    )


@router.get(
    "/{post}",
    responses={**READ, **problems(401, 404), 304: {"description": "The etag is still the current one."}},
    dependencies=[Depends(bearer)],
    response_model=schemas.Post,
    summary="Read a post",
)
async def get_post(
    here: Here,
    post: Name,
    response: Response,
    if_none_match: Annotated[str, Header(description="The etag you have.")] = "",
) -> schemas.Post | Response:
    """One post by slug or id. Without the token a draft is not found."""
    found = await find_post(here, post, include_drafts=is_editor())
    _cache_headers(response)
    response.headers["etag"] = found.etag
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    if found.etag in tags:
        return Response(status_code=304, headers=dict(response.headers))
    return messages.post(found, editor=is_editor())


async def find_post(here: Gateway, name: str, *, include_drafts: bool) -> posts_pb2.Post:
    """A post by id or slug; a slug may look like an id. Raises NotFound."""
    if is_uuid(name):
        request = posts_pb2.GetPostRequest(id=name.lower(), include_drafts=include_drafts)
        try:
            return await _get(here, request)
        except errors.NotFound:
            pass
    if not 0 < len(name) <= 100 or not name.isascii() or not name.isprintable():
        raise errors.NotFound("there is no such post", reason="POST_NOT_FOUND")
    return await _get(here, posts_pb2.GetPostRequest(slug=name, include_drafts=include_drafts))


async def _get(here: Gateway, request: posts_pb2.GetPostRequest) -> posts_pb2.Post:
    try:
        return (await here.clients.posts.GetPost(request)).post
    except grpc.aio.AioRpcError as error:
        if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
            raise errors.NotFound("there is no such post", reason="POST_NOT_FOUND") from None
        raise


async def _post_id(here: Here, post: Name) -> str:
    """The id of the post that the address names."""
    return post.lower() if is_uuid(post) else (await find_post(here, post, include_drafts=True)).id


PostId = Annotated[str, Depends(_post_id)]


@router.post("", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Make a post")
async def create_post(here: Here, body: schemas.NewPost, request_id: RequestId, response: Response) -> schemas.Post:
    """Make a post around an image that is stored already."""
    answer = await here.clients.posts.CreatePost(messages.create_request(body, request_id))
    response.headers["location"] = f"/api/posts/{answer.post.slug}"
    response.headers["etag"] = answer.post.etag
    return messages.post(answer.post, editor=True)


@router.patch("/{post}", responses=WRITE | problems(404, 409, 412), dependencies=EDITOR, summary="Change a post")
async def update_post(
    here: Here,
    post_id: PostId,
    body: schemas.PostChange,
    response: Response,
    if_match: Annotated[str, Header(description="The etag you saw: the change is refused if it is not current.")] = "",
) -> schemas.Post:
    """Change the fields that the body holds."""
    if not body.model_fields_set:
        message = "must hold at least one field"
        raise Problem(422, "INVALID_ARGUMENT", f"the body {message}", [FieldError("", message)])
    etag = "" if if_match.strip() == "*" else if_match.strip().removeprefix("W/")
    answer = await here.clients.posts.UpdatePost(messages.update_request(post_id, etag, body))
    response.headers["etag"] = answer.post.etag
    return messages.post(answer.post, editor=True)


@router.post("/{post}/publish", responses=WRITE | problems(404), dependencies=EDITOR, summary="Publish a post")
async def publish_post(here: Here, post_id: PostId) -> schemas.Post:
    """Make a draft public."""
    answer = await here.clients.posts.PublishPost(posts_pb2.PublishPostRequest(id=post_id))
    return messages.post(answer.post, editor=True)


@router.post("/{post}/unpublish", responses=WRITE | problems(404), dependencies=EDITOR, summary="Unpublish a post")
async def unpublish_post(here: Here, post_id: PostId) -> schemas.Post:
    """Make a published post a draft again."""
    answer = await here.clients.posts.UnpublishPost(posts_pb2.UnpublishPostRequest(id=post_id))
    return messages.post(answer.post, editor=True)


@router.delete(
    "/{post}", status_code=204, responses=WRITE | problems(404), dependencies=EDITOR, summary="Delete a post"
)
async def delete_post(here: Here, post_id: PostId) -> None:
    """Delete a post; its image is kept."""
    await here.clients.posts.DeletePost(posts_pb2.DeletePostRequest(id=post_id))
