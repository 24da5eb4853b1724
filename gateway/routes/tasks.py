"""Tasks: create, read, decide."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from frontispiece.posts.v1 import tasks_pb2

from gateway.routes.dependencies import EDITOR, Context, RequestId, TaskId
from gateway.routes.problems import EDITOR_READ, WRITE, problems
from gateway.schemas import decisions
from gateway.schemas import posts as post_schemas
from gateway.schemas import tasks as schemas

router = APIRouter(prefix="/api/tasks", tags=["tasks"], dependencies=EDITOR)


@router.post("", status_code=201, responses=WRITE, summary="Create a task")
async def create_task(app: Context, body: schemas.NewTask, request_id: RequestId, response: Response) -> schemas.Task:
    """Add a task to the queue, without waiting for its image. When the call returns, the task is on disk."""
    created = await app.clients.tasks.CreateTask(body.request(request_id))
    response.headers["location"] = f"/api/tasks/{created.task.id}"
    return schemas.Task.from_messages(created.task)


@router.get("", responses=EDITOR_READ, summary="List tasks")
async def list_tasks(app: Context, query: Annotated[schemas.TaskFilter, Query()]) -> schemas.TaskList:
    """Tasks, newest first."""
    listed = await app.clients.tasks.ListTasks(query.request())
    return schemas.TaskList.from_messages(listed)


@router.get("/{task_id}", responses=EDITOR_READ | problems(404), summary="Read a task")
async def get_task(app: Context, task_id: TaskId) -> schemas.Task:
    """A task with its images."""
    response = await app.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))
    return schemas.Task.from_messages(response.task)


@router.post("/{task_id}/approve", responses=WRITE | problems(404, 409), summary="Approve a task")
async def approve_task(
    app: Context, task_id: TaskId, body: decisions.Approval, request_id: RequestId
) -> decisions.Approved:
    """Approve one image of the task and create its post.

    A repeat with the same `Idempotency-Key` returns the same post. Any other call after a decision is 409.
    """
    request = tasks_pb2.ApproveTaskRequest(task_id=task_id, request_id=request_id)
    body.fill(request)
    response = await app.clients.tasks.ApproveTask(request)
    return decisions.Approved(
        task=schemas.Task.from_messages(response.task), post=post_schemas.post(response.post, editor=True)
    )


@router.post("/{task_id}/reject", responses=WRITE | problems(404, 409), summary="Reject a task")
async def reject_task(
    app: Context, task_id: TaskId, request_id: RequestId, body: decisions.Rejection | None = None
) -> schemas.Task:
    """Reject the images of the task.

    A repeat with the same `Idempotency-Key` returns the task. Any other call after a decision is 409.
    """
    request = tasks_pb2.RejectTaskRequest(task_id=task_id, request_id=request_id)
    if body is not None:
        body.fill(request)
    response = await app.clients.tasks.RejectTask(request)
    return schemas.Task.from_messages(response.task)


@router.post("/{task_id}/cancel", responses=EDITOR_READ | problems(404, 409), summary="Cancel a task")
async def cancel_task(app: Context, task_id: TaskId) -> schemas.Task:
    """Cancel a task that is queued or generating. Cancelling a cancelled task succeeds."""
    response = await app.clients.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_id=task_id))
    return schemas.Task.from_messages(response.task)


@router.post("/{task_id}/retry", responses=EDITOR_READ | problems(404, 409), summary="Retry a task")
async def retry_task(app: Context, task_id: TaskId, request_id: RequestId) -> schemas.Task:
    """Put a failed or cancelled task back into the queue, with its attempts reset.

    A repeat with the same `Idempotency-Key` changes nothing and returns the task as it is then.
    """
    request = tasks_pb2.RetryTaskRequest(task_id=task_id, request_id=request_id)
    response = await app.clients.tasks.RetryTask(request)
    return schemas.Task.from_messages(response.task)
