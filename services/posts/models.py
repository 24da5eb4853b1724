"""Values of the service that are not messages of the contract, and the states of tasks."""

import re
import uuid
from dataclasses import dataclass
from typing import cast

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The form of an id. uuid.UUID accepts others too, such as urn:uuid:."""

WORKER = "worker"
"""The actor of a change that no user caused."""

STATE_NAMES: dict[int, str] = {
    number: value.name.removeprefix("TASK_STATE_").lower()
    for number, value in t.TaskState.DESCRIPTOR.values_by_number.items()
    if number != t.TASK_STATE_UNSPECIFIED
}
"""The states of tasks as they are named in the database, by number."""

TASK_STATES: dict[str, t.TaskState] = {name: cast(t.TaskState, number) for number, name in STATE_NAMES.items()}
"""The states of tasks by their names in the database."""

POST_STATES: dict[str, p.PostState] = {"draft": p.POST_STATE_DRAFT, "published": p.POST_STATE_PUBLISHED}
"""The states of posts by their names in the database."""

TERMINAL_STATES = frozenset(
    state.number
    for state in t.TaskState.DESCRIPTOR.values
    if state.GetOptions().Extensions[t.terminal]  # type: ignore[index]  # the stub does not type extensions
)
"""The states that the contract marks as terminal. An event that enters one ends the event stream."""


@dataclass(frozen=True)
class NewPost:
    """The post to create. An id of None: the first author or category. An empty slug: derived from the title."""

    title: str
    content: str = ""
    slug: str = ""
    author_id: uuid.UUID | None = None
    category_id: uuid.UUID | None = None
    tags: tuple[str, ...] = ()
    alt_text: str = ""
    publish: bool = True


@dataclass(frozen=True)
class PostFilter:
    """The posts to list. None and "" match any. `category` and `author` are a slug or an id."""

    state: str | None = None
    tag: str = ""
    category: str = ""
    author: str = ""
    query: str = ""


@dataclass(frozen=True)
class PostChange:
    """The fields of a post to change. None leaves a field as it is."""

    title: str | None = None
    content: str | None = None
    slug: str | None = None
    author_id: uuid.UUID | None = None
    category_id: uuid.UUID | None = None
    tags: tuple[str, ...] | None = None
    alt_text: str | None = None
    image_key: str | None = None
