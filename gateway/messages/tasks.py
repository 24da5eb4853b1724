"""Tasks and their events: messages to JSON and back."""

import base64
from typing import Any

from frontispiece.posts.v1 import tasks_pb2

from gateway.messages.times import rfc3339
from gateway.schemas import pictures
from gateway.schemas import tasks as schemas

STATES: dict[int, schemas.TaskState] = {
    tasks_pb2.TASK_STATE_QUEUED: "queued",
    tasks_pb2.TASK_STATE_GENERATING: "generating",
    tasks_pb2.TASK_STATE_AWAITING_APPROVAL: "awaiting_approval",
    tasks_pb2.TASK_STATE_APPROVED: "approved",
    tasks_pb2.TASK_STATE_REJECTED: "rejected",
    tasks_pb2.TASK_STATE_CANCELLED: "cancelled",
    tasks_pb2.TASK_STATE_FAILED: "failed",
}
STATE_NUMBERS: dict[schemas.TaskState, Any] = {name: number for number, name in STATES.items()}

# States in which nothing more happens until somebody acts.
RESTING = frozenset({"awaiting_approval", "approved", "rejected", "cancelled", "failed"})

_OPTIONAL = ("width", "height", "num_inference_steps", "guidance_scale", "seed", "guidance_end", "denoising_end")


def create_request(body: schemas.NewTask, request_id: str) -> tasks_pb2.CreateTaskRequest:
    """The request that makes a task."""
    parameters = tasks_pb2.GenerationParameters(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        scheduler=body.scheduler,
        model=body.model,
        use_generation=body.use_generation,
        candidate_count=body.candidate_count,
        loras=[tasks_pb2.Lora(name=lora.name, weight=lora.weight) for lora in body.loras],
    )
    for name in _OPTIONAL:
        value = getattr(body, name)
        if value is not None:
            setattr(parameters, name, value)
    if body.initial_image is not None:
        parameters.initial_image.CopyFrom(_initial_image(body.initial_image))
    return tasks_pb2.CreateTaskRequest(request_id=request_id, task_id=body.task_id or "", parameters=parameters)


def _initial_image(body: pictures.InitialImage) -> tasks_pb2.InitialImage:
    mask = pictures.decoded(body.mask) if body.mask else b""
    return tasks_pb2.InitialImage(key=body.key, strength=body.strength, mask=mask, mask_feather=body.mask_feather)


def _used_initial_image(message: tasks_pb2.InitialImage) -> pictures.UsedInitialImage:
    return pictures.UsedInitialImage(
        key=message.key,
        url=message.url,
        strength=message.strength if message.HasField("strength") else None,
        has_mask=message.has_mask,
        mask_feather=message.mask_feather if message.HasField("mask_feather") else None,
    )


def _parameters(message: tasks_pb2.GenerationParameters) -> schemas.Parameters:
    optional = {name: getattr(message, name) if message.HasField(name) else None for name in _OPTIONAL}
    return schemas.Parameters(
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        use_generation=message.use_generation,
        scheduler=message.scheduler,
        model=message.model,
        candidate_count=max(1, message.candidate_count),
        loras=[schemas.Lora(name=lora.name, weight=lora.weight) for lora in message.loras],
        initial_image=_used_initial_image(message.initial_image) if message.HasField("initial_image") else None,
        **optional,
    )


def image(message: tasks_pb2.TaskImage) -> schemas.TaskImage:
    """An image as JSON."""
    painted = not message.credit
    return schemas.TaskImage.model_validate(
        {
            "index": message.index,
            "url": message.url,
            "key": message.key,
            "image_source": message.image_source,
            "width": message.width,
            "height": message.height,
            "content_type": message.content_type,
            "size_bytes": message.size_bytes,
            "sha256": message.sha256,
            "thumbhash": message.thumbhash,
            "seed": message.seed if painted else None,
            "model": message.model,
            "model_revision": message.model_revision,
            "scheduler": message.scheduler,
            "num_inference_steps": message.num_inference_steps,
            "guidance_scale": message.guidance_scale,
            "credit": message.credit,
            "credit_url": message.credit_url,
        }
    )


def _error(message: tasks_pb2.TaskError) -> schemas.TaskError:
    return schemas.TaskError(reason=message.reason, message=message.message, will_retry=message.will_retry)


def task(message: tasks_pb2.Task) -> schemas.Task:
    """A task as JSON."""
    return schemas.Task(
        id=message.id,
        state=STATES[message.state],
        parameters=_parameters(message.parameters),
        images=[image(one) for one in message.images],
        attempt_count=message.attempt_count,
        max_attempts=message.max_attempts,
        error=_error(message.error) if message.HasField("error") else None,
        queue_position=message.queue_position if message.HasField("queue_position") else None,
        post_id=message.post_id or None,
        last_sequence=message.last_sequence,
        created_by=message.created_by,
        updated_by=message.updated_by,
        create_time=rfc3339(message.create_time),
        update_time=rfc3339(message.update_time),
    )


def generated_image(of: schemas.Task) -> schemas.GeneratedImage:
    """The picture of a task, the first of them if there are several."""
    first = of.images[0] if of.images else None
    return schemas.GeneratedImage(
        task_id=of.id,
        state=of.state,
        image_url=first.url if first else None,
        image_source=first.image_source if first else None,
        width=first.width if first else None,
        height=first.height if first else None,
        seed=first.seed if first else of.parameters.seed,
        credit=(first.credit or None) if first else None,
        credit_url=(first.credit_url or None) if first else None,
        images=of.images,
        queue_position=of.queue_position,
    )


def approve_request(task_id: str, body: schemas.Approval, request_id: str) -> tasks_pb2.ApproveTaskRequest:
    """The request that accepts an image and makes its post."""
    return tasks_pb2.ApproveTaskRequest(
        task_id=task_id,
        image_index=body.image_index,
        title=body.title,
        content=body.content,
        author_id=body.author_id or "",
        category_id=body.category_id or "",
        tags=body.tags,
        slug=body.slug or "",
        alt_text=body.alt_text,
        publish=body.publish,
        request_id=request_id,
    )


def event(message: tasks_pb2.TaskEvent) -> tuple[str, dict[str, Any]]:
    """An event's name and its data as JSON."""
    common: dict[str, Any] = {
        "task_id": message.task_id,
        "sequence": message.sequence,
        "time": rfc3339(message.time),
        "terminal": message.terminal,
    }
    kind = message.WhichOneof("kind")
    if kind == "state_change":
        name: str = STATES[message.state_change.state]
        return name, common | _state_change(message.state_change)
    if kind == "progress":
        return kind, common | _progress(message.progress)
    if kind == "preview":
        data = base64.b64encode(message.preview.data).decode("ascii")
        payload = {"index": message.preview.index, "content_type": message.preview.content_type, "data": data}
        return kind, common | payload
    if kind == "image":
        return kind, common | {"image": image(message.image).model_dump()}
    return "unknown", common  # a newer service; the sequence still counts


def _state_change(change: tasks_pb2.TaskStateChange) -> dict[str, Any]:
    return {
        "state": STATES[change.state],
        "attempt": change.attempt,
        "error": _error(change.error).model_dump() if change.HasField("error") else None,
        "actor": change.actor,
        "post_id": change.post_id or None,
        "comment": change.comment or None,
    }


def _progress(progress: tasks_pb2.TaskProgress) -> dict[str, Any]:
    return {
        "step": progress.step,
        "total_steps": progress.total_steps,
        "fraction": round(progress.step / progress.total_steps, 4) if progress.total_steps else None,
        "eta_seconds": progress.eta.ToMilliseconds() / 1000 if progress.HasField("eta") else None,
        "queue_position": progress.queue_position if progress.HasField("queue_position") else None,
    }
