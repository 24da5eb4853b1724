"""JSON of the events of a task, and how OpenAPI describes the stream of them."""

from typing import Any

from frontispiece.posts.v1 import tasks_pb2
from pydantic import Field

from gateway.schemas.base import Output
from gateway.schemas.enums import enum_name
from gateway.schemas.formats import Time, Uuid
from gateway.schemas.tasks import TaskError, TaskImage, TaskState


class TaskEvent(Output):
    """What every event of a task has."""

    task_id: Uuid
    sequence: int = Field(description="Position among the stored events, from 1. 0: the event is not stored.")
    time: Time
    terminal: bool = Field(description="Whether the stream ends with this event.")


class TaskStateEvent(TaskEvent):
    """The task entered a state. The name of the event is the state."""

    state: TaskState
    attempt: int = Field(description="The attempt to which this belongs. 0: before the first.")
    error: TaskError | None = Field(description="Why the attempt failed.")
    actor: str = Field(description="Who caused it. `worker`: no user did.")
    post_id: Uuid | None = Field(description="The post of an approved task.")
    comment: str | None = Field(description="The comment of the editor who rejected the task.")


class TaskProgressEvent(TaskEvent):
    """A denoising step is done, or the task waits in the generator. The name of the event is `progress`."""

    step: int = Field(description="Denoising steps done, over all images.")
    total_steps: int = Field(description="Denoising steps in all. 0: not known.")
    fraction: float | None = Field(description="step / total_steps.")
    eta_seconds: float | None = Field(description="Estimated time left.")
    queue_position: int | None = Field(description="Number of requests before this one in the generator.")


class TaskPreviewEvent(TaskEvent):
    """A preview of an image. The name of the event is `preview`."""

    index: int = Field(description="Index of the candidate, from 0.")
    content_type: str = Field(description="`image/png` or `image/jpeg`.")
    data: str = Field(description="The encoded image, base64.")


class TaskImageEvent(TaskEvent):
    """An image is stored. The name of the event is `image`."""

    image: TaskImage


EVENTS: tuple[type[TaskEvent], ...] = (TaskStateEvent, TaskProgressEvent, TaskPreviewEvent, TaskImageEvent)

STREAM: dict[str, Any] = {
    "title": "ServerSentEvent",
    "description": "One event of the stream.",
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "The state that the task entered, `image`, `progress`, `preview`."},
        "id": {"type": "string", "pattern": "^[0-9]+$", "description": "The sequence. Only stored events have one."},
        "data": {
            "type": "string",
            "description": "JSON; its shape follows from the name of the event.",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [{"$ref": f"#/components/schemas/{one.__name__}"} for one in EVENTS]},
        },
    },
    "required": ["event", "data"],
}
"""The schema of one event. Before version 3.2 OpenAPI has no other place for it than the schema of the content."""


def encode(event: tasks_pb2.TaskEvent) -> tuple[str, dict[str, Any]]:
    """The name of an event, and its data as JSON."""
    kind = event.WhichOneof("kind")
    if kind is None:
        return "unknown", TaskEvent.from_messages(event).model_dump()  # of a newer service; its sequence counts
    if kind == "state_change":
        name = enum_name(tasks_pb2.TaskState.DESCRIPTOR, event.state_change.state)
        return name, TaskStateEvent.from_messages(event.state_change, event).model_dump()
    if kind == "progress":
        return kind, _progress(event).model_dump()
    if kind == "preview":
        return kind, TaskPreviewEvent.from_messages(event.preview, event).model_dump()
    return kind, TaskImageEvent.from_messages(event).model_dump()


def _progress(event: tasks_pb2.TaskEvent) -> TaskProgressEvent:
    message = event.progress
    return TaskProgressEvent.from_messages(
        message,
        event,
        fraction=round(message.step / message.total_steps, 4) if message.total_steps else None,
        eta_seconds=message.eta.ToMilliseconds() / 1000 if message.HasField("eta") else None,
    )
