"""The one call that takes a prompt and answers a picture."""

import asyncio
import contextlib
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from frontispiece.posts.v1 import tasks_pb2

from gateway.errors import Problem
from gateway.messages import tasks as messages
from gateway.routes.responses import EDITOR, WRITE, RequestId, problems
from gateway.schemas import tasks as schemas
from gateway.state import Gateway, gateway
from gateway.watching import first_of
from rpc import context

router = APIRouter(prefix="/api/media", tags=["media"], dependencies=EDITOR)

_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*")

# Why a task failed for good, where the caller can do something about it; any other reason is the system's fault.
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
        **problems(409, 429, 502),
        202: {"model": schemas.GeneratedImage, "description": "The task goes on; `Location` tells where to look."},
    },
    summary="Make a picture",
)
async def generate_image(
    here: Annotated[Gateway, Depends(gateway)],
    body: schemas.NewTask,
    request_id: RequestId,
    response: Response,
    prefer: Annotated[
        str, Header(description="`respond-async`: do not wait. `wait=N`: wait at most N seconds.", max_length=200)
    ] = "",
) -> schemas.GeneratedImage:
    """Make a task and wait for its picture.

    Answers 200 with the picture, or 202 when it is not there in time. The task is durable: it goes on when the caller
    hangs up. A task that failed is a problem with the task's reason as `code`, and `task_id`.
    """
    answer = await here.clients.tasks.CreateTask(messages.create_request(body, request_id))
    task = messages.task(answer.task)
    wait_seconds, applied = preference(prefer, here.settings.wait_seconds)
    if applied:
        response.headers["preference-applied"] = applied
    if task.state not in messages.RESTING and wait_seconds > 0:
        await _wait(here, task.id, wait_seconds)
        context.set_remaining_seconds(here.settings.request_seconds)
        read = await here.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task.id))
        task = messages.task(read.task)
    if task.state in {"failed", "cancelled", "rejected"}:
        raise _failure(task)
    response.headers["location"] = f"/api/tasks/{task.id}"
    if task.state not in messages.RESTING:
        response.status_code = 202
        response.headers["retry-after"] = "1"
    return messages.generated_image(task)


def preference(prefer: str, limit_seconds: float) -> tuple[float, str]:
    """How many seconds to wait, at most `limit_seconds`, and which preference (RFC 7240) that honours."""
    wanted: list[str] = [part.strip() for part in prefer.lower().split(",")]
    for part in wanted:
        match = _WAIT.fullmatch(part)
        if match:
            return min(limit_seconds, float(match.group(1))), part.replace(" ", "")
    if "respond-async" in wanted:
        return 0.0, "respond-async"
    return limit_seconds, ""


async def _wait(here: Gateway, task_id: str, seconds: float) -> None:
    """Wait until the task comes to rest, the time is over, or the gateway stops."""
    context.set_remaining_seconds(None)
    over = asyncio.ensure_future(first_of(here.stopping.wait(), asyncio.sleep(seconds)))
    try:
        events = here.watcher.follow(task_id, 0, stop=over, tick_seconds=seconds)
        async with contextlib.aclosing(events):
            async for _event in events:
                pass
    finally:
        over.cancel()


def _failure(task: schemas.Task) -> Problem:
    extra = {"task_id": task.id, "state": task.state}
    if task.state != "failed":
        return Problem(409, f"TASK_{task.state.upper()}", f"the task was {task.state}", extra=extra)
    reason = task.error.reason if task.error else "UNKNOWN"
    detail = task.error.message if task.error else "the task failed"
    return Problem(422 if reason in _CALLER_REASONS else 502, reason, detail, extra=extra)
