"""JSON of the events of a task."""

from typing import Any

from frontispiece.posts.v1 import tasks_pb2

from gateway.schemas.base import Output, enum_name
from gateway.schemas.formats import Uuid
from gateway.schemas.tasks import TaskError, TaskImage, TaskState


class StateChange(Output):
    """The task entered a state."""

    state: TaskState
    attempt: int
    error: TaskError | None
    actor: str
    post_id: Uuid | None
    comment: str | None


class Progress(Output):
    """A denoising step is done, or the task waits in the generator."""

    step: int
    total_steps: int
    fraction: float | None
    eta_seconds: float | None
    queue_position: int | None


class Preview(Output):
    """A preview of an image. `data` is base64."""

    index: int
    content_type: str
    data: str


def encode(event: tasks_pb2.TaskEvent) -> tuple[str, dict[str, Any]]:
    """The name of an event, and its data as JSON."""
    common: dict[str, Any] = {
        "task_id": event.task_id,
        "sequence": event.sequence,
        "time": event.time.ToJsonString(),
        "terminal": event.terminal,
    }
    kind = event.WhichOneof("kind")
    if kind is None:
        return "unknown", common  # of a newer service; its sequence counts all the same
    if kind == "image":
        return kind, common | {"image": TaskImage.from_messages(event.image).model_dump()}
    name = enum_name(tasks_pb2.TaskState.DESCRIPTOR, event.state_change.state) if kind == "state_change" else kind
    return name, common | _DATA[kind](getattr(event, kind)).model_dump()


def _progress(message: tasks_pb2.TaskProgress) -> Progress:
    return Progress.from_messages(
        message,
        fraction=round(message.step / message.total_steps, 4) if message.total_steps else None,
        eta_seconds=message.eta.ToMilliseconds() / 1000 if message.HasField("eta") else None,
    )


_DATA: dict[str, Any] = {
    "state_change": StateChange.from_messages,
    "progress": _progress,
    "preview": Preview.from_messages,
}
