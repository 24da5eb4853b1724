"""Models as protobuf messages."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from google.protobuf.duration_pb2 import Duration

from services.posts.models import (
    Event,
    InitialImage,
    Parameters,
    Person,
    Post,
    PostState,
    Preview,
    Progress,
    StateChange,
    Tag,
    Task,
    TaskError,
    TaskImage,
    TaskState,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_TASK_STATES: dict[TaskState, tasks_pb2.TaskState] = {
    TaskState.QUEUED: tasks_pb2.TASK_STATE_QUEUED,
    TaskState.GENERATING: tasks_pb2.TASK_STATE_GENERATING,
    TaskState.AWAITING_APPROVAL: tasks_pb2.TASK_STATE_AWAITING_APPROVAL,
    TaskState.APPROVED: tasks_pb2.TASK_STATE_APPROVED,
    TaskState.REJECTED: tasks_pb2.TASK_STATE_REJECTED,
    TaskState.CANCELLED: tasks_pb2.TASK_STATE_CANCELLED,
    TaskState.FAILED: tasks_pb2.TASK_STATE_FAILED,
}
TASK_STATES: dict[int, TaskState] = {int(number): state for state, number in _TASK_STATES.items()}
"""The states by their number on the wire; UNSPECIFIED is not among them."""

_POST_STATES: dict[PostState, posts_pb2.PostState] = {
    PostState.DRAFT: posts_pb2.POST_STATE_DRAFT,
    PostState.PUBLISHED: posts_pb2.POST_STATE_PUBLISHED,
}
POST_STATES: dict[int, PostState] = {int(number): state for state, number in _POST_STATES.items()}
"""The states by their number on the wire; UNSPECIFIED is not among them."""


def _time(time: datetime) -> dict[str, int]:
    """The fields of a Timestamp. Its FromDatetime takes three times as long, and a page of posts has sixty of them."""
    since = time - _EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1000}


def task(model: Task) -> tasks_pb2.Task:
    """A task."""
    return tasks_pb2.Task(
        id=str(model.id),
        state=_TASK_STATES[model.state],
        parameters=parameters(model.parameters),
        images=[image(item) for item in model.images],
        attempt_count=model.attempt_count,
        max_attempts=model.max_attempts,
        error=error(model.error) if model.error else None,
        queue_position=model.queue_position,
        post_id=str(model.post_id or ""),
        last_sequence=model.last_sequence,
        created_by=model.created_by,
        updated_by=model.updated_by,
        create_time=_time(model.create_time),
        update_time=_time(model.update_time),
    )


def parameters(model: Parameters) -> tasks_pb2.GenerationParameters:
    """Parameters."""
    return tasks_pb2.GenerationParameters(
        prompt=model.prompt,
        negative_prompt=model.negative_prompt,
        width=model.width,
        height=model.height,
        num_inference_steps=model.num_inference_steps,
        guidance_scale=model.guidance_scale,
        seed=model.seed,
        scheduler=model.scheduler,
        model=model.model,
        use_generation=model.use_generation,
        candidate_count=model.candidate_count,
        loras=[tasks_pb2.Lora(name=lora.name, weight=lora.weight) for lora in model.loras],
        guidance_end=model.guidance_end,
        denoising_end=model.denoising_end,
        initial_image=_initial_image(model.initial_image) if model.initial_image else None,
    )


def _initial_image(model: InitialImage) -> tasks_pb2.InitialImage:
    return tasks_pb2.InitialImage(
        key=model.key,
        strength=model.strength,
        has_mask=bool(model.mask_sha256),
        url=model.url,
        mask_feather=model.mask_feather,
    )


def image(model: TaskImage) -> tasks_pb2.TaskImage:
    """An image of a task."""
    return tasks_pb2.TaskImage(**vars(model))


def error(model: TaskError) -> tasks_pb2.TaskError:
    """Why an attempt failed."""
    return tasks_pb2.TaskError(reason=model.reason, message=model.message, will_retry=model.will_retry)


def event(model: Event) -> tasks_pb2.TaskEvent:
    """Something that happened to a task."""
    message = tasks_pb2.TaskEvent(
        task_id=str(model.task_id), sequence=model.sequence, time=_time(model.time), terminal=model.terminal
    )
    kind = model.kind
    if isinstance(kind, StateChange):
        message.state_change.CopyFrom(_state_change(kind))
    elif isinstance(kind, Progress):
        message.progress.CopyFrom(_progress(kind))
    elif isinstance(kind, Preview):
        message.preview.CopyFrom(
            tasks_pb2.TaskPreview(index=kind.index, content_type=kind.content_type, data=kind.data)
        )
    else:
        message.image.CopyFrom(image(kind))
    return message


def _state_change(kind: StateChange) -> tasks_pb2.TaskStateChange:
    return tasks_pb2.TaskStateChange(
        state=_TASK_STATES[kind.state],
        attempt=kind.attempt,
        error=error(kind.error) if kind.error else None,
        actor=kind.actor,
        post_id=str(kind.post_id or ""),
        comment=kind.comment,
    )


def _progress(kind: Progress) -> tasks_pb2.TaskProgress:
    eta = None
    if kind.eta_seconds is not None:
        eta = Duration()
        eta.FromMilliseconds(int(kind.eta_seconds * 1000))
    return tasks_pb2.TaskProgress(
        step=kind.step, total_steps=kind.total_steps, eta=eta, queue_position=kind.queue_position
    )


def post(model: Post) -> posts_pb2.Post:
    """A post."""
    return posts_pb2.Post(**_post(model))


def posts(models: Sequence[Post], next_page_token: str) -> posts_pb2.ListPostsResponse:
    """A page of posts."""
    return posts_pb2.ListPostsResponse(posts=map(_post, models), next_page_token=next_page_token)


def _post(model: Post) -> dict[str, Any]:
    """The fields of a post. A message inside a message is copied, a mapping is not: that is half of the time."""
    return {
        "id": str(model.id),
        "slug": model.slug,
        "state": _POST_STATES[model.state],
        "title": model.title,
        "content": model.content,
        "featured_image": vars(model.featured_image),
        "author": _person(model.author),
        "category": _person(model.category),
        "tags": model.tags,
        "task_id": str(model.task_id or ""),
        "created_by": model.created_by,
        "updated_by": model.updated_by,
        "create_time": _time(model.create_time),
        "update_time": _time(model.update_time),
        "publish_time": _time(model.publish_time) if model.publish_time else None,
        "etag": model.etag,
    }


def _person(model: Person) -> dict[str, str]:
    return {"id": str(model.id), "slug": model.slug, "name": model.name}


def author(model: Person) -> posts_pb2.Author:
    """An author."""
    return posts_pb2.Author(**_person(model))


def category(model: Person) -> posts_pb2.Category:
    """A category."""
    return posts_pb2.Category(**_person(model))


def tag(model: Tag) -> posts_pb2.Tag:
    """A tag."""
    return posts_pb2.Tag(name=model.name, post_count=model.post_count)
