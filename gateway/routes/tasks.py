"""Tasks: create, read, decide."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from frontispiece.posts.v1 import tasks_pb2

from gateway.routes.dependencies import EDITOR, Context, IfMatch, RequestId, TaskId, tell_etag
from gateway.routes.problems import CHANGE, EDITOR_READ, WRITE, created, problems, with_etag
from gateway.schemas import decisions
from gateway.schemas import posts as post_schemas
from gateway.schemas import tasks as schemas

router = APIRouter(prefix="/api/tasks", tags=["tasks"], dependencies=EDITOR)


_CHANGE = {**CHANGE, **problems(404, 409, 412), **with_etag(200)}


@router.post("", status_code=201, responses={**WRITE, **problems(409), **created("the task")}, summary="Create a task")
async def create_task(app: Context, body: schemas.NewTask, request_id: RequestId, response: Response) -> schemas.Task:
    """Add a task to the queue, without waiting for its image. When the call returns, the task is on disk."""
    made = await app.clients.create_task(body.request(request_id))
    response.headers["location"] = f"/api/tasks/{made.id}"
    return _task(made, response)


@router.get("", responses=EDITOR_READ, summary="List tasks")
async def list_tasks(app: Context, query: Annotated[schemas.TaskFilter, Query()]) -> schemas.TaskList:
    """Tasks, newest first."""
    listed = await app.clients.tasks.ListTasks(query.request())
    return schemas.TaskList.from_messages(listed)


@router.get("/{task_id}", responses={**EDITOR_READ, **problems(404), **with_etag(200)}, summary="Read a task")
async def get_task(app: Context, task_id: TaskId, response: Response) -> schemas.Task:
    """A task with its images."""
    found = await app.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))
    return _task(found.task, response)


@router.post("/{task_id}/approve", responses=_CHANGE | problems(400), summary="Approve a task")
async def approve_task(
    app: Context,
    task_id: TaskId,
    body: decisions.Approval,
    request_id: RequestId,
    etag: IfMatch,
    response: Response,
) -> decisions.Approved:
    """Approve one image of the task and create its post. The ETag is that of the task.

    A repeat with the same `Idempotency-Key` returns the same post. Any other call after a decision is 409.
    """
    request = tasks_pb2.ApproveTaskRequest(task_id=task_id, request_id=request_id, etag=etag)
    body.fill(request)
    approved = await app.clients.tasks.ApproveTask(request)
    return decisions.Approved(task=_task(approved.task, response), post=post_schemas.post(approved.post, editor=True))


@router.post("/{task_id}/reject", responses=_CHANGE | problems(400), summary="Reject a task")
async def reject_task(
    app: Context,
    task_id: TaskId,
    request_id: RequestId,
    etag: IfMatch,
    response: Response,
    body: decisions.Rejection | None = None,
) -> schemas.Task:
    """Reject the images of the task.

    A repeat with the same `Idempotency-Key` returns the task. Any other call after a decision is 409.
    """
    request = tasks_pb2.RejectTaskRequest(task_id=task_id, request_id=request_id, etag=etag)
    if body is not None:
        body.fill(request)
    return _task((await app.clients.tasks.RejectTask(request)).task, response)


@router.post("/{task_id}/cancel", responses=_CHANGE, summary="Cancel a task")
async def cancel_task(app: Context, task_id: TaskId, etag: IfMatch, response: Response) -> schemas.Task:
    """Cancel a task that is queued or generating. Cancelling a cancelled task succeeds."""
    request = tasks_pb2.CancelTaskRequest(task_id=task_id, etag=etag)
    return _task((await app.clients.tasks.CancelTask(request)).task, response)


@router.post("/{task_id}/retry", responses=_CHANGE, summary="Retry a task")
async def retry_task(
    app: Context, task_id: TaskId, request_id: RequestId, etag: IfMatch, response: Response
) -> schemas.Task:
    """Put a failed or cancelled task back into the queue, with its attempts reset.

    A repeat with the same `Idempotency-Key` changes nothing and returns the task as it is then.
    """
    request = tasks_pb2.RetryTaskRequest(task_id=task_id, request_id=request_id, etag=etag)
    return _task((await app.clients.tasks.RetryTask(request)).task, response)


def _task(task: tasks_pb2.Task, response: Response) -> schemas.Task:
    """The answer with a task."""
    tell_etag(response, task.etag)
    return schemas.Task.from_messages(task)
