"""Requests as the arguments of the domain, and the rules that are not options of a field.

The server has normalised the request and checked the limits of its fields (rpc.validation) before.
"""

import uuid
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1 import generation_pb2

from rpc import errors
from rpc.limits import limits
from services.posts.api import masks
from services.posts.content import tags
from services.posts.content.create import not_found
from services.posts.content.slugs import looks_like_an_id
from services.posts.models import POST_STATES, UUID, NewPost, PostChange, PostFilter

CHANGEABLE = {field.name for field in p.UpdatePostRequest.DESCRIPTOR.fields} - {"id", "etag", "update_mask"}
"""The fields that an update mask may name."""

_REQUIRED = CHANGEABLE - {"content", "tags", "alt_text"}
"""Those of them that must not become empty."""

_POST_STATE_NAMES = {number: name for name, number in POST_STATES.items()}


def task_id(value: str) -> uuid.UUID:
    """The id of a task. A text that is not a UUID is the id of no task: raises NotFound."""
    if not UUID.fullmatch(value):
        raise errors.NotFound("the task does not exist", reason="TASK_NOT_FOUND")
    return uuid.UUID(value)


def post_id(value: str) -> uuid.UUID:
    """The id of a post. A text that is not a UUID is the id of no post: raises NotFound."""
    if not UUID.fullmatch(value):
        raise not_found()
    return uuid.UUID(value)


def page_size(request: Any) -> int:
    """The number of items to return: as requested, or the default of the contract."""
    return int(request.page_size or limits(type(request), "page_size").default)


def new_task(request: t.CreateTaskRequest) -> t.CreateTaskRequest:
    """The request with its defaults filled in and without output-only fields. Raises InvalidArgument (mask).

    A mask is decoded, which may take 100 ms.
    """
    parameters = request.parameters
    if request.task_id:
        request.task_id = request.task_id.lower()
    request.candidate_count = request.candidate_count or 1
    parameters.source = parameters.source or generation_pb2.IMAGE_SOURCE_GENERATED
    if parameters.HasField("initial_image"):
        parameters.initial_image.ClearField("has_mask")
        parameters.initial_image.ClearField("url")
        mask = parameters.initial_image.mask
        if mask and (problem := masks.problem(mask)):
            raise errors.InvalidArgument.field("parameters.initial_image.mask", problem)
    return request


def approval(request: t.ApproveTaskRequest) -> NewPost:
    """The post to create from a task."""
    return _new_post(request, publish=request.publish if request.HasField("publish") else True)


def new_post(request: p.CreatePostRequest) -> NewPost:
    """The post to create."""
    return _new_post(request, publish=request.publish)


def named(request: p.CreateAuthorRequest | p.CreateCategoryRequest) -> tuple[str, str]:
    """The name and the slug of an author or a category to create."""
    _check_slug(request.slug)
    return request.name, request.slug


def _check_slug(slug: str) -> None:
    if looks_like_an_id(slug):
        raise errors.InvalidArgument.field("slug", "must not have the form of an id")


def _new_post(request: t.ApproveTaskRequest | p.CreatePostRequest, *, publish: bool) -> NewPost:
    _check_slug(request.slug)
    return NewPost(
        title=request.title,
        content=request.content,
        slug=request.slug,
        author_id=uuid.UUID(request.author_id) if request.author_id else None,
        category_id=uuid.UUID(request.category_id) if request.category_id else None,
        tags=tags.distinct(request.tags),
        alt_text=request.alt_text,
        publish=publish,
    )


def post_filter(request: p.ListPostsRequest) -> PostFilter:
    """The posts to list."""
    return PostFilter(
        state=_POST_STATE_NAMES.get(request.state),
        tag=request.tag,
        category=request.category,
        author=request.author,
        query=request.query,
    )


def post_change(request: p.UpdatePostRequest) -> PostChange:
    """The fields of a post to change. Raises InvalidArgument (update_mask, or a required field that is empty)."""
    mask = set(request.update_mask.paths)
    problems = [
        errors.FieldViolation("update_mask", f"{path!r} is not a field that can be changed")
        for path in sorted(mask - CHANGEABLE)
    ]
    problems += [
        errors.FieldViolation(name, "must not be empty")
        for name in sorted(mask & _REQUIRED)
        if not getattr(request, name).strip()
    ]
    if not mask:
        problems.append(errors.FieldViolation("update_mask", "must name at least one field"))
    if problems:
        raise errors.InvalidArgument.fields(problems)
    if "slug" in mask:
        _check_slug(request.slug)

    def text(name: str) -> str | None:
        return getattr(request, name) if name in mask else None

    def reference(name: str) -> uuid.UUID | None:
        return uuid.UUID(getattr(request, name)) if name in mask else None

    return PostChange(
        title=text("title"),
        content=text("content"),
        slug=text("slug"),
        author_id=reference("author_id"),
        category_id=reference("category_id"),
        tags=tags.distinct(request.tags) if "tags" in mask else None,
        alt_text=text("alt_text"),
        image_key=text("featured_image_key"),
    )
