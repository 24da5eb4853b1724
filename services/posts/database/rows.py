"""Rows of the database as models."""

import json
from dataclasses import asdict, fields
from typing import Any

from services.posts.database.database import Record
from services.posts.models import (
    RESTING,
    Event,
    FeaturedImage,
    InitialImage,
    Lora,
    Parameters,
    Person,
    Post,
    PostState,
    StateChange,
    Task,
    TaskError,
    TaskImage,
    TaskState,
)

PARAMETERS = tuple(field.name for field in fields(Parameters))
"""The columns of a task that hold what to make."""

_IMAGE = tuple(field.name for field in fields(TaskImage))

_POST_STATES = {state.value: state for state in PostState}  # a tenth of the time that PostState("draft") takes
_TASK_STATES = {state.value: state for state in TaskState}


def task(row: Record) -> Task:
    """A row of task_records."""
    return Task(
        id=row["id"],
        state=_TASK_STATES[row["state"]],
        parameters=_parameters(row),
        images=tuple(map(image, json.loads(row["images"]))) if row["images"] else (),
        attempt_count=row["attempt_count"],
        max_attempts=row["max_attempts"],
        error=error(row),
        queue_position=row["queue_position"],
        post_id=row["post_id"],
        last_sequence=row["last_sequence"],
        created_by=row["created_by"],
        updated_by=row["updated_by"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def columns(parameters: Parameters) -> list[Any]:
    """The columns of a task that hold what to make, in the order of the fields."""
    initial = parameters.initial_image
    special = {
        "loras": json.dumps([asdict(lora) for lora in parameters.loras]),
        "initial_image": json.dumps(asdict(initial)) if initial else None,
    }
    return [special[name] if name in special else getattr(parameters, name) for name in PARAMETERS]


def _parameters(row: Record) -> Parameters:
    initial = row["initial_image"]
    special: dict[str, Any] = {
        "loras": tuple(Lora(**lora) for lora in json.loads(row["loras"])),
        "initial_image": _initial_image(json.loads(initial)) if initial else None,
    }
    return Parameters(*[special[name] if name in special else row[name] for name in PARAMETERS])


def _initial_image(stored: dict[str, Any]) -> InitialImage:
    # A task of before there were soft borders has a hard one: another attempt paints the same picture.
    hard = 0 if stored["mask_sha256"] else None
    return InitialImage(**{"mask_feather": hard, **stored})


def image(row: Record | dict[str, Any]) -> TaskImage:
    """A row of task_images, or one in the JSON of task_records."""
    return TaskImage(*[row[name] for name in _IMAGE])


def error(row: Record) -> TaskError | None:
    """The error columns of a task or an event."""
    if row["error_reason"] is None:
        return None
    return TaskError(row["error_reason"], row["error_message"], row["error_will_retry"])


def event(row: Record) -> Event:
    """A row of task_events with its image and the task's `last_sequence`."""
    kind: StateChange | TaskImage
    terminal = False
    if row["kind"] == "image":
        kind = image(row)
    else:
        state = _TASK_STATES[row["state"]]
        terminal = state in RESTING and row["sequence"] == row["last_sequence"]
        kind = StateChange(state, row["attempt"], error(row), row["actor"], row["event_post_id"], row["comment"])
    return Event(row["task_id"], row["sequence"], row["time"], terminal, kind)


def post(row: Record) -> Post:
    """A row of full_posts."""
    return Post(
        id=row["id"],
        slug=row["slug"],
        state=_POST_STATES[row["state"]],
        title=row["title"],
        content=row["content"],
        featured_image=FeaturedImage(
            key=row["featured_image_key"],
            url=row["featured_image_url"],
            alt_text=row["alt_text"],
            width=row["image_width"],
            height=row["image_height"],
            thumbhash=row["image_thumbhash"],
            image_source=row["image_source"],
        ),
        author=Person(row["author_id"], row["author_slug"], row["author_name"]),
        category=Person(row["category_id"], row["category_slug"], row["category_name"]),
        tags=tuple(row["tags"]),
        task_id=row["task_id"],
        created_by=row["created_by"],
        updated_by=row["updated_by"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        publish_time=row["publish_time"],
        version=row["version"],
    )


def person(row: Record) -> Person:
    """A row of authors or categories."""
    return Person(row["id"], row["slug"], row["name"])
