"""What the record is about: tasks, their images and events, posts and what they refer to."""

import enum
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Frozen for the type checker, which sees every assignment that we write.
    from dataclasses import dataclass as record
else:
    import dataclasses

    def record(*, frozen: bool) -> Callable[[type], type]:
        """A dataclass that is not frozen at run time: to make a frozen one takes five times as long."""
        return dataclasses.dataclass(unsafe_hash=frozen)


DISPATCHER = "dispatcher"
"""The actor of a change that nobody asked for."""


class TaskState(enum.StrEnum):
    """The life of a task; the values are those of the database."""

    QUEUED = "queued"
    GENERATING = "generating"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAILED = "failed"


RESTING = frozenset(TaskState) - {TaskState.QUEUED, TaskState.GENERATING}
"""The states in which nothing happens until somebody acts."""


class PostState(enum.StrEnum):
    """Whether the public sees a post; the values are those of the database."""

    DRAFT = "draft"
    PUBLISHED = "published"


@record(frozen=True)
class Lora:
    """A LoRA by name, and how strongly it is felt."""

    name: str
    weight: float = 1.0


@record(frozen=True)
class InitialImage:
    """The stored image that a task begins from.

    `strength`: None stands for the generator's default. `mask_sha256`: lower-case hex; "": no mask, all of it may
    change. `mask_feather`: width of the soft border in pixels; None without a mask, and before a task is made. `url` is
    "" only before a task is made.
    """

    key: str
    strength: float | None = None
    mask_sha256: str = ""
    url: str = ""
    mask_feather: int | None = None

    @property
    def used_strength(self) -> float:
        """The strength, the generator's default where none is given."""
        return self.strength if self.strength is not None else 1.0 if self.mask_sha256 else 0.6


@record(frozen=True)
class Parameters:
    """What to make; None and "" stand for the generator's default. `seed` is None only before a task is made."""

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    scheduler: str = ""
    model: str = ""
    use_generation: bool = True
    candidate_count: int = 1
    guidance_end: float | None = None
    loras: tuple[Lora, ...] = ()
    denoising_end: float | None = None
    initial_image: InitialImage | None = None


@record(frozen=True)
class TaskError:
    """Why an attempt failed; `reason` is a stable name, `message` is public."""

    reason: str
    message: str
    will_retry: bool


@record(frozen=True)
class TaskImage:
    """One stored image of a task; `index` counts the candidates from 0."""

    index: int
    key: str
    url: str
    image_source: str
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    thumbhash: str
    seed: int
    model: str
    model_revision: str
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    credit: str
    credit_url: str


@record(frozen=True)
class Task:
    """One task as it is in the database, with its images by index."""

    id: uuid.UUID
    state: TaskState
    parameters: Parameters
    images: tuple[TaskImage, ...]
    attempt_count: int
    max_attempts: int
    error: TaskError | None
    queue_position: int | None
    post_id: uuid.UUID | None
    last_sequence: int
    created_by: str
    updated_by: str
    create_time: datetime
    update_time: datetime


@record(frozen=True)
class StateChange:
    """The task entered a state."""

    state: TaskState
    attempt: int
    error: TaskError | None
    actor: str
    post_id: uuid.UUID | None
    comment: str


@record(frozen=True)
class Progress:
    """How far a task is: steps over all candidates; `queue_position` while it waits in the generator."""

    step: int
    total_steps: int
    eta_seconds: float | None = None
    queue_position: int | None = None


@record(frozen=True)
class Preview:
    """A rough picture of a candidate, a few KiB."""

    index: int
    content_type: str
    data: bytes


@record(frozen=True)
class Event:
    """Something that happened to a task; `sequence` is 0 for what is not stored."""

    task_id: uuid.UUID
    sequence: int
    time: datetime
    terminal: bool
    kind: StateChange | TaskImage | Progress | Preview


@record(frozen=True)
class Person:
    """An author, or a category: something with a name and a slug."""

    id: uuid.UUID
    slug: str
    name: str


@record(frozen=True)
class Tag:
    """A tag and how many published posts carry it."""

    name: str
    post_count: int


@record(frozen=True)
class FeaturedImage:
    """The picture of a post."""

    key: str
    url: str
    alt_text: str
    width: int
    height: int
    thumbhash: str
    image_source: str


@record(frozen=True)
class Post:
    """One post with everything it refers to."""

    id: uuid.UUID
    slug: str
    state: PostState
    title: str
    content: str
    featured_image: FeaturedImage
    author: Person
    category: Person
    tags: tuple[str, ...]
    task_id: uuid.UUID | None
    created_by: str
    updated_by: str
    create_time: datetime
    update_time: datetime
    publish_time: datetime | None
    version: int

    @property
    def etag(self) -> str:
        """Changes with every change of the post."""
        return f'"{self.version}"'


@record(frozen=True)
class Draft:
    """What an editor says about a post to make. `author_id`, `category_id`: None: the first there is."""

    title: str
    content: str = ""
    slug: str = ""
    author_id: uuid.UUID | None = None
    category_id: uuid.UUID | None = None
    tags: tuple[str, ...] = ()
    alt_text: str = ""
    publish: bool = True
