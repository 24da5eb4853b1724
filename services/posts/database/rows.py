"""Rows of the database as messages of the contract."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1 import generation_pb2

from services.posts.database.database import Record
from services.posts.database.json_columns import from_json, from_plain
from services.posts.models import POST_STATES, TASK_STATES, TERMINAL_STATES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(time: datetime) -> dict[str, int]:
    """The fields of a Timestamp. Timestamp.FromDatetime takes three times as long, and a page of posts has sixty."""
    since = time - _EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1000}


def task(row: Record) -> t.Task:
    """A row of task_records."""
    return t.Task(
        id=str(row["id"]),
        state=TASK_STATES[row["state"]],
        parameters=from_json(generation_pb2.GenerationParameters, row["parameters"]),
        candidate_count=row["candidate_count"],
        images=[from_plain(t.TaskImage, image) for image in json.loads(row["images"] or "[]")],
        attempt_count=row["attempt_count"],
        max_attempts=row["max_attempts"],
        error=_error(row),
        queue_position=row["queue_position"],
        post_id=str(row["post_id"] or ""),
        approved_image_index=row["approved_image_index"],
        last_sequence=row["last_sequence"],
        etag=f'"{row["last_sequence"]}"',
        created_by=row["created_by"],
        updated_by=row["updated_by"],
        create_time=timestamp(row["create_time"]),
        update_time=timestamp(row["update_time"]),
    )


def event(row: Record) -> t.TaskEvent:
    """A row of task_events with its image and the `last_sequence` of the task."""
    found = t.TaskEvent(task_id=str(row["task_id"]), sequence=row["sequence"], time=timestamp(row["time"]))
    if row["kind"] == "image":
        found.image.CopyFrom(from_json(t.TaskImage, row["image"]))
        return found
    change = t.TaskStateChange(
        state=TASK_STATES[row["state"]],
        attempt=row["attempt"],
        error=_error(row),
        actor=row["actor"],
        post_id=str(row["post_id"] or ""),
        comment=row["comment"],
    )
    found.state_change.CopyFrom(change)
    found.terminal = change.state in TERMINAL_STATES and row["sequence"] == row["last_sequence"]
    return found


def _error(row: Record) -> t.TaskError | None:
    """The error columns of a task or an event."""
    if row["error_reason"] is None:
        return None
    return t.TaskError(reason=row["error_reason"], message=row["error_message"], will_retry=row["error_will_retry"])


def post(row: Record) -> dict[str, Any]:
    """A row of full_posts as the fields of a Post. Nested messages would be copied: this takes half of the time."""
    published = row["publish_time"]
    return {
        "id": str(row["id"]),
        "slug": row["slug"],
        "state": POST_STATES[row["state"]],
        "title": row["title"],
        "content": row["content"],
        "featured_image": _featured_image(row["featured_image"]),
        "author": _named(row["author_id"], row["author_slug"], row["author_name"], row["author_is_default"]),
        "category": _named(row["category_id"], row["category_slug"], row["category_name"], row["category_is_default"]),
        "tags": row["tags"],
        "task_id": str(row["task_id"] or ""),
        "created_by": row["created_by"],
        "updated_by": row["updated_by"],
        "create_time": timestamp(row["create_time"]),
        "update_time": timestamp(row["update_time"]),
        "publish_time": timestamp(published) if published else None,
        "etag": f'"{row["version"]}"',
        "excerpt": row["excerpt"],
        "html": row["html"],
    }


@lru_cache(maxsize=2048)  # a list of posts spent a third of its time here
def _featured_image(text: str) -> p.FeaturedImage:
    """The image of a post, for the constructor of Post, which copies it. It must not be changed."""
    return from_json(p.FeaturedImage, text)


@lru_cache(maxsize=2048)
def _named(key: UUID, slug: str, name: str, is_default: bool) -> Mapping[str, Any]:
    """The fields of an Author or a Category. They must not be changed."""
    return {"id": str(key), "slug": slug, "name": name, "is_default": is_default}
