"""One call that takes a prompt and returns an image."""

import asyncio
import contextlib
import re
from typing import Annotated

from fastapi import APIRouter, Header, Response
from frontispiece.posts.v1 import tasks_pb2

from gateway.context import AppContext
from gateway.errors import FieldError, Problem, rest_name
from gateway.routes.dependencies import EDITOR, Context, RequestId, tell_etag
from gateway.routes.problems import WRITE, problems, with_etag
from gateway.routes.task_events import first_of, follow
from gateway.schemas import tasks as schemas
from gateway.schemas.generated import GeneratedImage, generated_image
from rpc import context

router = APIRouter(prefix="/api/media", tags=["media"], dependencies=EDITOR)

_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*")

# Reasons of a failed task that the caller can mend. Any other reason is a fault of the system.
_CALLER_REASONS = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "STOCK_NOT_CONFIGURED",
        "STOCK_NOT_FOUND",
        "IMAGE_NOT_FOUND",
    }
)


@router.post(
    "/generate-image",
    responses={
        **WRITE,
        **problems(409),
        **with_etag(200, "The image."),
        202: {"model": GeneratedImage, "description": "The image is not ready. `Location` is its task."},
    },
    summary="Generate an image",
)
async def generate_image(
    app: Context,
    body: schemas.NewTask,
    request_id: RequestId,
    response: Response,
    prefer: Annotated[
        str,
        Header(
            alias="Prefer",
            description="`respond-async`: do not wait. `wait=N`: wait at most N seconds.",
            max_length=200,
        ),
    ] = "",
) -> GeneratedImage:
    """Create a task and wait for its image.

    The status is 200 with the image, or 202 when it is not ready in time. The task continues when the caller
    disconnects. A failed task is a problem with the reason of the task as `code`, and `task_id`.
    """
    wait_seconds, applied = preference(prefer, app.settings.wait_seconds)
    if wait_seconds > 0 and app.waiting_calls >= app.settings.max_event_streams:
        raise Problem(429, "TOO_MANY_WAITING", "too many calls wait for their image; try `Prefer: respond-async`")
    created = await app.clients.create_task(body.request(request_id))
    if applied:
        response.headers["preference-applied"] = applied
    if not schemas.is_terminal(created) and wait_seconds > 0:
        await _wait(app, created, wait_seconds)
        if not schemas.is_terminal(created):  # its position in the queue has changed, which no event says
            context.set_remaining_seconds(app.settings.request_seconds)
            created = (await app.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=created.id))).task
    task = schemas.Task.from_messages(created)
    if task.state in {"failed", "cancelled", "rejected"}:
        raise _failure(task)
    response.headers["location"] = f"/api/tasks/{task.id}"
    tell_etag(response, task.etag)
    if not task.terminal:
        response.status_code = 202
        response.headers["retry-after"] = "1"
    return generated_image(task)


def preference(prefer: str, limit_seconds: float) -> tuple[float, str]:
    """How many seconds to wait, at most `limit_seconds`, and the preference (RFC 7240) that this applies."""
    preferences = [part.strip() for part in prefer.lower().split(",")]
    for part in preferences:
        match = _WAIT.fullmatch(part)
        if match:
            return min(limit_seconds, float(match.group(1))), part.replace(" ", "")
    if "respond-async" in preferences:
        return 0.0, "respond-async"
    return limit_seconds, ""


async def _wait(app: AppContext, task: tasks_pb2.Task, seconds: float) -> None:
    """Apply the events of a task to it, until it is terminal, the time is over, or the gateway stops."""
    context.set_remaining_seconds(None)
    over = asyncio.ensure_future(first_of(app.stopping.wait(), asyncio.sleep(seconds)))
    app.waiting_calls += 1
    try:
        events = follow(app, task.id, task.last_sequence, stop=over, tick_seconds=seconds)
        async with contextlib.aclosing(events):
            async for event in events:
                if event is not None:
                    apply(task, event)
    finally:
        app.waiting_calls -= 1
        over.cancel()


def apply(task: tasks_pb2.Task, event: tasks_pb2.TaskEvent) -> None:
    """Change a task as its next stored event says. Together they carry all that a terminal task has."""
    if event.HasField("image"):
        images = {image.index: image for image in (*task.images, event.image)}
        ordered = [images[index] for index in sorted(images)]
        del task.images[:]
        task.images.extend(ordered)
    elif event.HasField("state_change"):
        task.state = event.state_change.state
        task.post_id = event.state_change.post_id
        task.ClearField("queue_position")
        task.ClearField("error")
        if event.state_change.HasField("error"):
            task.error.CopyFrom(event.state_change.error)


_FIELD = re.compile(r"(?:^|; )parameters\.([\w.\[\]]+): ")


def _failure(task: schemas.Task) -> Problem:
    extra = {"task_id": task.id, "state": task.state}
    if task.state != "failed":
        return Problem(409, f"TASK_{task.state.upper()}", f"the task was {task.state}", extra=extra)
    reason = task.error.reason if task.error else "UNKNOWN"
    fields = _fields(task.error.message) if task.error else []
    detail = "; ".join(f"{one.field}: {one.message}" for one in fields)
    detail = detail or (task.error.message if task.error else "the task failed")
    return Problem(422 if reason in _CALLER_REASONS else 502, reason, detail, fields, extra=extra)


def _fields(message: str) -> list[FieldError]:
    """The wrong fields that the message of a failed task names: `parameters.width: must be …; parameters.model: …`."""
    parts = _FIELD.split(message)[1:]
    return [FieldError(rest_name(name), text) for name, text in zip(parts[::2], parts[1::2], strict=True)]
