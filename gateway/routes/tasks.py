"""Tasks: making, reading, and the editors' decision."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from frontispiece.posts.v1 import tasks_pb2
from pydantic import BaseModel, ConfigDict, Field

from gateway.messages import posts as post_messages
from gateway.messages import tasks as messages
from gateway.routes.responses import EDITOR, EDITOR_READ, WRITE, RequestId, TaskId, problems
from gateway.schemas import tasks as schemas
from gateway.state import Gateway, gateway

router = APIRouter(prefix="/api/tasks", tags=["tasks"], dependencies=EDITOR)

Here = Annotated[Gateway, Depends(gateway)]


class TaskFilter(BaseModel):
    """Which tasks to list."""

    model_config = ConfigDict(extra="forbid")

    state: schemas.TaskState | None = Field(None, description="Only tasks in this state.")
    page_size: int = Field(20, ge=1, le=100, description="How many at most.")
    page_token: str = Field("", max_length=1000, description="`next_page_token` of the page before.")


@router.post("", status_code=201, responses=WRITE, summary="Make a task and do not wait")
async def create_task(here: Here, body: schemas.NewTask, request_id: RequestId, response: Response) -> schemas.Task:
    """Put a task into the queue. When this has answered, the task is on disk."""
    answer = await here.clients.tasks.CreateTask(messages.create_request(body, request_id))
    response.headers["location"] = f"/api/tasks/{answer.task.id}"
    return messages.task(answer.task)


@router.get("", responses=EDITOR_READ, summary="List tasks")
async def list_tasks(here: Here, query: Annotated[TaskFilter, Query()]) -> schemas.TaskList:
    """Tasks, newest first."""
    answer = await here.clients.tasks.ListTasks(
        tasks_pb2.ListTasksRequest(
            page_size=query.page_size,
            page_token=query.page_token,
            state=messages.STATE_NUMBERS[query.state] if query.state else tasks_pb2.TASK_STATE_UNSPECIFIED,
        )
    )
    return schemas.TaskList(tasks=[messages.task(one) for one in answer.tasks], next_page_token=answer.next_page_token)


@router.get("/{task_id}", responses=EDITOR_READ | problems(404), summary="Read a task")
async def get_task(here: Here, task_id: TaskId) -> schemas.Task:
    """One task with its images."""
    answer = await here.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))
    return messages.task(answer.task)


@router.post("/{task_id}/approve", responses=WRITE | problems(404, 409), summary="Approve a task")
async def approve_task(here: Here, task_id: TaskId, body: schemas.Approval, request_id: RequestId) -> schemas.Approved:
    """Take one of the task's images and make its post, published unless `publish` is false.

    A repeat with the same `Idempotency-Key` answers the post that it made. Any other call after the decision is 409.
    """
    answer = await here.clients.tasks.ApproveTask(messages.approve_request(task_id, body, request_id))
    return schemas.Approved(task=messages.task(answer.task), post=post_messages.post(answer.post, editor=True))


@router.post("/{task_id}/reject", responses=WRITE | problems(404, 409), summary="Reject a task")
async def reject_task(
    here: Here, task_id: TaskId, request_id: RequestId, body: schemas.Rejection | None = None
) -> schemas.Task:
    """Refuse the task's images. A repeat with the same `Idempotency-Key` answers the task; any other call is 409."""
    comment = body.comment if body else ""
    request = tasks_pb2.RejectTaskRequest(task_id=task_id, comment=comment, request_id=request_id)
    answer = await here.clients.tasks.RejectTask(request)
    return messages.task(answer.task)


@router.post("/{task_id}/cancel", responses=EDITOR_READ | problems(404, 409), summary="Cancel a task")
async def cancel_task(here: Here, task_id: TaskId) -> schemas.Task:
    """Stop a task that is queued or generating. Cancelling a cancelled task is a success."""
    answer = await here.clients.tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_id=task_id))
    return messages.task(answer.task)


@router.post("/{task_id}/retry", responses=EDITOR_READ | problems(404, 409), summary="Retry a task")
async def retry_task(here: Here, task_id: TaskId, request_id: RequestId) -> schemas.Task:
    """Put a failed or cancelled task back into the queue with fresh attempts.

    A repeat with the same `Idempotency-Key` queues nothing and answers the task as it is by then.
    """
    answer = await here.clients.tasks.RetryTask(tasks_pb2.RetryTaskRequest(task_id=task_id, request_id=request_id))
    return messages.task(answer.task)
