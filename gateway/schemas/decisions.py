"""JSON of the decisions of an editor about a task."""

from frontispiece.posts.v1 import tasks_pb2
from pydantic import ConfigDict, Field

from gateway.schemas.base import Input, Output
from gateway.schemas.posts import Post
from gateway.schemas.tasks import Task


class Approval(Input):
    """Which image an editor approves, and the post to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "The keeper's hour", "content": "Dusk, and the lamp is lit.", "tags": ["sea"]}]
        }
    )
    messages = (tasks_pb2.ApproveTaskRequest,)

    title: str = Field(description="Title of the post.")
    content: str = Field("", description="Text of the post, Markdown.")
    author_id: str | None = Field(None, description="Id of the author. Default: the first author.")
    category_id: str | None = Field(None, description="Id of the category. Default: the first category.")
    tags: list[str] = Field(default_factory=list, description="Tag names. Duplicates are removed.")
    slug: str | None = Field(None, description="Name of the post in URLs. Default: derived from the title.")
    alt_text: str = Field("", description="Alternative text of the image. Default: the prompt.")
    image_index: int = Field(0, description="Index of the approved image. Default: 0.")
    publish: bool = Field(
        True, description="Whether to publish the post at once; `false` keeps it a draft. Default: true."
    )


class Approved(Output):
    """An approved task and its post."""

    task: Task
    post: Post


class Rejection(Input):
    """The decision of an editor to reject the images of a task."""

    messages = (tasks_pb2.RejectTaskRequest,)

    comment: str = Field("", description="Why the images are rejected.")
