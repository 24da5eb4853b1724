"""JSON of generate-image: the image of a task, or its progress."""

from pydantic import Field

from gateway.schemas.base import Output
from gateway.schemas.formats import Url, Uuid
from gateway.schemas.tasks import Task, TaskImage, TaskState


class GeneratedImage(Output):
    """The image of a task, or its progress."""

    task_id: Uuid
    state: TaskState
    image_url: Url | None = Field(None, description="URL of the first image. null: there is none yet.")
    image_source: str | None = Field(None, description="`sdxl-s3`, `sdxl-local` or `pexels`.")
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    credit: str | None = Field(None, description="Credit for a stock photo.")
    credit_url: str | None = Field(None, description="Web page of the stock photo.")
    images: list[TaskImage]
    queue_position: int | None = Field(description="Number of tasks before this one. null unless it is queued.")


def generated_image(task: Task) -> GeneratedImage:
    """The first image of a task, with all images."""
    common = {"task_id": task.id, "state": task.state, "images": task.images, "queue_position": task.queue_position}
    if not task.images:
        return GeneratedImage(**common, seed=task.parameters.seed)
    first = task.images[0]
    shown = first.model_dump(include={"image_source", "width", "height", "seed"})
    credit = {"credit": first.credit or None, "credit_url": first.credit_url or None}
    return GeneratedImage(**common, **shown, **credit, image_url=first.url)
