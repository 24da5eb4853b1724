"""Rows of the database as models."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from services.posts.database import Record
from services.posts.models import (
    RESTING,
    Event,
    FeaturedImage,
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

IMAGES_OF_TASKS = "SELECT * FROM task_images WHERE task_id = ANY ($1::uuid[]) ORDER BY task_id, index"

_PARAMETERS = tuple(field.name for field in fields(Parameters))
_POST = (
    *("id", "slug", "title", "content", "task_id", "created_by", "updated_by"),
    *("create_time", "update_time", "publish_time", "version"),
)
_IMAGE = tuple(field.name for field in fields(TaskImage))


def task(row: Record, images: Iterable[Record]) -> Task:
    """A row of task_records and the rows of its images."""
    return Task(
        id=row["id"],
        state=TaskState(row["state"]),
        parameters=Parameters(**{name: row[name] for name in _PARAMETERS}),
        images=tuple(image(item) for item in images),
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


def tasks(found: Sequence[Record], images: Iterable[Record]) -> list[Task]:
    """Rows of task_records with the images of all of them."""
    by_task: dict[UUID, list[Record]] = defaultdict(list)
    for item in images:
        by_task[item["task_id"]].append(item)
    return [task(row, by_task[row["id"]]) for row in found]


def image(row: Record) -> TaskImage:
    """A row of task_images."""
    return TaskImage(**{name: row[name] for name in _IMAGE})


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
        state = TaskState(row["state"])
        terminal = state in RESTING and row["sequence"] == row["last_sequence"]
        kind = StateChange(state, row["attempt"], error(row), row["actor"], row["event_post_id"], row["comment"])
    return Event(row["task_id"], row["sequence"], row["time"], terminal, kind)


def post(row: Record) -> Post:
    """A row of post_records."""
    picture = FeaturedImage(
        key=row["featured_image_key"],
        url=row["featured_image_url"],
        alt_text=row["alt_text"],
        width=row["image_width"],
        height=row["image_height"],
        thumbhash=row["image_thumbhash"],
        image_source=row["image_source"],
    )
    same: dict[str, Any] = {name: row[name] for name in _POST}
    return Post(
        state=PostState(row["state"]),
        featured_image=picture,
        author=Person(row["author_id"], row["author_slug"], row["author_name"]),
        category=Person(row["category_id"], row["category_slug"], row["category_name"]),
        tags=tuple(row["tags"]),
        **same,
    )


def person(row: Record) -> Person:
    """A row of authors or categories."""
    return Person(row["id"], row["slug"], row["name"])
