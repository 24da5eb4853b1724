"""Protobuf requests as models, every field checked against its limit; all wrong ones are named at once."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from frontispiece.posts.v1 import posts_pb2, tasks_pb2

from rpc import errors
from services.posts import validation
from services.posts.api import encode, masks
from services.posts.content.repository import Change, Filter
from services.posts.models import Draft, InitialImage, Lora, Parameters, PostState, TaskState
from services.posts.validation import Fields

CHANGEABLE = ("title", "content", "slug", "author_id", "category_id", "tags", "featured_image_key", "alt_text")
"""The fields that an update mask may name."""


def task_id(value: str) -> uuid.UUID:
    """The id of a task to find. What is no UUID names no task: NotFound."""
    found = validation.identifier(value)
    if found is None:
        raise errors.NotFound("there is no such task", reason="TASK_NOT_FOUND")
    return found


def post_id(value: str) -> uuid.UUID:
    """The id of a post to find. What is no UUID names no post: NotFound."""
    found = validation.identifier(value)
    if found is None:
        raise errors.NotFound("there is no such post", reason="POST_NOT_FOUND")
    return found


def post_slug(value: str) -> str:
    """The slug of a post to find. What is no slug names no post: NotFound."""
    if not validation.is_slug(value):
        raise errors.NotFound("there is no such post", reason="POST_NOT_FOUND")
    return value


def new_task(request: tasks_pb2.CreateTaskRequest) -> tuple[str, uuid.UUID | None, Parameters, bytes]:
    """The request_id ("" for none), the caller's id for the task, what to make, and its mask (b"" for none)."""
    fields = Fields()
    request_id = fields.request_id("request_id", request.request_id)
    wanted_id = fields.reference("task_id", request.task_id)
    parameters = _parameters(fields, request.parameters)
    fields.check()
    return request_id, wanted_id, parameters, bytes(request.parameters.initial_image.mask)


def _parameters(fields: Fields, given: tasks_pb2.GenerationParameters) -> Parameters:
    def optional(name: str) -> Any:
        return getattr(given, name) if given.HasField(name) else None

    at = "parameters."
    width = fields.integer(
        at + "width", optional("width"), validation.MIN_SIDE, validation.MAX_SIDE, validation.SIDE_STEP
    )
    height = fields.integer(
        at + "height", optional("height"), validation.MIN_SIDE, validation.MAX_SIDE, validation.SIDE_STEP
    )
    if width and height and width * height > validation.MAX_PIXELS:
        fields.wrong(at + "width", f"width × height must be at most {validation.MAX_PIXELS}, is {width * height}")
    end = fields.share(at + "denoising_end", optional("denoising_end"), whole=False)
    initial = _initial_image(fields, at + "initial_image", given)
    if end and initial and 0 < end <= 1 - initial.used_strength < 1:
        fields.wrong(
            at + "denoising_end",
            f"must be greater than 1 - strength, {1 - initial.used_strength:g}: the model would have nothing to do",
        )
    count = fields.integer(at + "candidate_count", given.candidate_count or 1, 1, validation.MAX_CANDIDATES) or 1
    return Parameters(
        prompt=fields.text(at + "prompt", given.prompt, least=1, most=validation.MAX_PROMPT),
        negative_prompt=fields.text(at + "negative_prompt", given.negative_prompt, most=validation.MAX_PROMPT),
        width=width,
        height=height,
        num_inference_steps=fields.integer(
            at + "num_inference_steps", optional("num_inference_steps"), 1, validation.MAX_STEPS
        ),
        guidance_scale=fields.real(at + "guidance_scale", optional("guidance_scale"), 0.0, validation.MAX_GUIDANCE),
        # The last candidate's seed must fit too.
        seed=fields.integer(at + "seed", optional("seed"), 0, validation.MAX_SEED - (count - 1)),
        scheduler=fields.text(at + "scheduler", given.scheduler, most=64),
        model=fields.text(at + "model", given.model, most=200),
        use_generation=given.use_generation,
        candidate_count=count,
        guidance_end=fields.real(at + "guidance_end", optional("guidance_end"), 0.0, 1.0),
        loras=_loras(fields, at + "loras", given.loras),
        denoising_end=end,
        initial_image=initial,
    )


def _initial_image(fields: Fields, at: str, parameters: tasks_pb2.GenerationParameters) -> InitialImage | None:
    if not parameters.HasField("initial_image"):
        return None
    if not parameters.use_generation:
        fields.wrong(at, "must not be given for a stock photo")
    given = parameters.initial_image
    mask = bytes(given.mask)
    if mask and (problem := masks.problem(mask)):
        fields.wrong(at + ".mask", problem)
    feather = given.mask_feather if given.HasField("mask_feather") else None
    if feather is not None and not mask:
        fields.wrong(at + ".mask_feather", "must not be given without a mask")
    return InitialImage(
        key=fields.object_key(at + ".key", given.key),
        strength=fields.share(at + ".strength", given.strength if given.HasField("strength") else None, whole=True),
        mask_sha256=hashlib.sha256(mask).hexdigest() if mask else "",
        mask_feather=fields.integer(at + ".mask_feather", feather, 0, validation.MAX_MASK_FEATHER),
    )


def _loras(fields: Fields, at: str, given: Sequence[tasks_pb2.Lora]) -> tuple[Lora, ...]:
    if len(given) > validation.MAX_LORAS:
        fields.wrong(at, f"must be at most {validation.MAX_LORAS}, are {len(given)}")
        return ()
    limit = validation.MAX_LORA_WEIGHT
    found = []
    for i, lora in enumerate(given):
        name = fields.text(f"{at}[{i}].name", lora.name, least=1, most=validation.MAX_LORA_NAME)
        weight = fields.real(f"{at}[{i}].weight", lora.weight if lora.HasField("weight") else 1.0, -limit, limit)
        found.append(Lora(name, 1.0 if weight is None else weight))
    if len({lora.name for lora in found}) < len(found):
        fields.wrong(at, "must each be named once")
    return tuple(found)


def task_state(number: int) -> TaskState | None:
    """A filter; None: any."""
    if number == tasks_pb2.TASK_STATE_UNSPECIFIED:
        return None
    state = encode.TASK_STATES.get(number)
    if state is None:
        raise errors.InvalidArgument.field("state", f"{number} is not a state")
    return state


def retried(request: tasks_pb2.RetryTaskRequest) -> str:
    """The request_id, "" for none."""
    fields = Fields()
    request_id = fields.request_id("request_id", request.request_id)
    fields.check()
    return request_id


def approval(request: tasks_pb2.ApproveTaskRequest) -> tuple[str, Draft]:
    """The request_id ("" for none), and the post to make of a task."""
    fields = Fields()
    request_id = fields.request_id("request_id", request.request_id)
    publish = request.publish if request.HasField("publish") else True
    draft = _draft(fields, request, publish, required=False)
    fields.check()
    return request_id, draft


def rejection(request: tasks_pb2.RejectTaskRequest) -> tuple[str, str]:
    """The request_id ("" for none), and the words of an editor who rejects."""
    fields = Fields()
    request_id = fields.request_id("request_id", request.request_id)
    comment = fields.text("comment", request.comment, most=validation.MAX_COMMENT, lines=True)
    fields.check()
    return request_id, comment


def new_post(request: posts_pb2.CreatePostRequest) -> tuple[str, Draft, str]:
    """The request_id ("" for none), the post to make, and the key of its picture."""
    fields = Fields()
    request_id = fields.request_id("request_id", request.request_id)
    draft = _draft(fields, request, request.publish, required=True)
    key = fields.text("featured_image_key", request.featured_image_key, least=1, most=validation.MAX_KEY)
    fields.check()
    return request_id, draft, key


def _draft(
    fields: Fields,
    request: tasks_pb2.ApproveTaskRequest | posts_pb2.CreatePostRequest,
    publish: bool,
    *,
    required: bool,
) -> Draft:
    return Draft(
        title=fields.text("title", request.title, least=1, most=validation.MAX_TITLE),
        content=fields.text("content", request.content, most=validation.MAX_CONTENT, lines=True),
        slug=fields.slug("slug", request.slug),
        author_id=fields.reference("author_id", request.author_id, required=required),
        category_id=fields.reference("category_id", request.category_id, required=required),
        tags=fields.tags("tags", request.tags),
        alt_text=fields.text("alt_text", request.alt_text, most=validation.MAX_ALT_TEXT),
        publish=publish,
    )


def post_filter(request: posts_pb2.ListPostsRequest) -> Filter:
    """Which posts to list."""
    fields = Fields()
    state: PostState | None = None
    if request.state != posts_pb2.POST_STATE_UNSPECIFIED:
        state = encode.POST_STATES.get(request.state)
        if state is None:
            fields.wrong("state", f"{request.state} is not a state")
    wanted = Filter(
        state=state,
        tag=fields.text("tag", request.tag, most=validation.MAX_TAG),
        category=fields.text("category", request.category, most=validation.MAX_SLUG),
        author=fields.text("author", request.author, most=validation.MAX_SLUG),
        query=fields.text("query", request.query, most=validation.MAX_QUERY),
    )
    fields.check()
    return wanted


def change(request: posts_pb2.UpdatePostRequest) -> tuple[Change, str]:
    """What of a post changes, and the key of its new picture, "" for the one it has."""
    fields = Fields()
    mask = set(request.update_mask.paths)
    if not mask:
        fields.wrong("update_mask", "must name at least one field")
    for path in sorted(mask.difference(CHANGEABLE)):
        fields.wrong("update_mask", f"{path!r} is not a field that can be changed")

    def text(name: str, most: int, least: int = 0, lines: bool = False) -> str | None:
        return fields.text(name, getattr(request, name), least=least, most=most, lines=lines) if name in mask else None

    def reference(name: str) -> uuid.UUID | None:
        return fields.reference(name, getattr(request, name), required=True) if name in mask else None

    changed = Change(
        title=text("title", validation.MAX_TITLE, least=1),
        content=text("content", validation.MAX_CONTENT, lines=True),
        slug=fields.slug("slug", request.slug, required=True) if "slug" in mask else None,
        author_id=reference("author_id"),
        category_id=reference("category_id"),
        tags=fields.tags("tags", request.tags) if "tags" in mask else None,
        alt_text=text("alt_text", validation.MAX_ALT_TEXT),
    )
    key = text("featured_image_key", validation.MAX_KEY, least=1) or ""
    fields.check()
    return changed, key


def named(name: str, slug: str) -> tuple[str, str]:
    """The name and slug of a new author or category."""
    fields = Fields()
    clean = fields.text("name", name, least=1, most=validation.MAX_NAME)
    wanted = fields.slug("slug", slug)
    fields.check()
    return clean, wanted
