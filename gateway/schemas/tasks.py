"""JSON of tasks: what to generate, and the result."""

from typing import Any, Literal, Self

from frontispiece.posts.v1 import tasks_pb2
from frontispiece.types.v1 import generation_pb2
from google.protobuf.message import Message
from pydantic import ConfigDict, Field

from gateway.schemas.base import Input, Output
from gateway.schemas.formats import Time, Url, Uuid
from gateway.schemas.images import InitialImage, UsedInitialImage

TaskState = Literal["queued", "generating", "awaiting_approval", "approved", "rejected", "cancelled", "failed"]


class Lora(Input):
    """A LoRA and its weight."""

    messages = (generation_pb2.Lora,)

    name: str = Field(description="Name of the LoRA, one of the `loras` of the model.")
    weight: float = Field(
        1.0, description="Weight of the LoRA. 0 has no effect, a negative weight has the opposite effect. Default: 1."
    )


class NewTask(Input):
    """What to generate. A field that is not given has the default of the model (`GET /api/capabilities`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt": "a lighthouse at dusk, oil on canvas", "use_generation": True, "seed": 7}]
        }
    )
    messages = (tasks_pb2.CreateTaskRequest, generation_pb2.GenerationParameters)

    prompt: str = Field(description="What the image shows. Line breaks become spaces.")
    use_generation: bool = Field(
        True, description="Whether to generate the image. `false` searches for a stock photo instead. Default: true."
    )
    task_id: str | None = Field(
        None, description="A UUID for the task. It makes the call idempotent. Default: the server chooses one."
    )
    negative_prompt: str = Field("", description="What the image must not show. No effect when guidance is off.")
    width: int | None = Field(None, description="Width in pixels.")
    height: int | None = Field(None, description="Height in pixels.")
    num_inference_steps: int | None = Field(None, description="Number of denoising steps.")
    guidance_scale: float | None = Field(
        None, description="Classifier-free guidance scale. 1 or less turns guidance off."
    )
    seed: int | None = Field(
        None, description="Seed of the first image; image i uses seed + i. Default: the server chooses one."
    )
    scheduler: str = Field(
        "", description="Name of the scheduler, one of the `schedulers` of the model. Default: the first."
    )
    model: str = Field("", description="Id of the model. Default: the first model of the capabilities.")
    candidate_count: int = Field(
        1, description="Number of images to generate, for an editor to choose from. Default: 1."
    )
    loras: list[Lora] = Field(default_factory=list, description="LoRAs to apply, each at most once.")
    guidance_end: float | None = Field(
        None,
        description="Fraction of the steps that use guidance, from the first. Steps after it cost half. Default: 1.",
    )
    denoising_end: float | None = Field(
        None,
        description="Fraction of the noise that the model removes; its `refiner` removes the rest. With an "
        "`initial_image` it must be greater than 1 - strength. Default: the refiner is not used.",
    )
    clip_skip: int = Field(
        0, description="Number of layers of the text encoders to skip, from the last but one. Default: 0."
    )
    initial_image: InitialImage | None = Field(
        None,
        description="A stored image to start from. Without width and height the new image keeps its shape: its own "
        "size if the model supports it, else the nearest size with about as many pixels as the default of the model. "
        "Not for a stock photo.",
    )

    def request(self, request_id: str) -> tasks_pb2.CreateTaskRequest:
        """The request of CreateTask."""
        request = tasks_pb2.CreateTaskRequest(request_id=request_id)
        self.fill(request)
        self.fill(request.parameters)
        generated, stock = generation_pb2.IMAGE_SOURCE_GENERATED, generation_pb2.IMAGE_SOURCE_STOCK
        request.parameters.source = generated if self.use_generation else stock
        return request


class UsedLora(Output):
    """A LoRA of a task, and its weight."""

    name: str
    weight: float


class Parameters(Output):
    """What was requested, with the seed that was chosen."""

    prompt: str
    negative_prompt: str
    use_generation: bool
    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int | None
    scheduler: str
    model: str
    candidate_count: int
    loras: list[UsedLora]
    guidance_end: float | None
    denoising_end: float | None
    clip_skip: int
    initial_image: UsedInitialImage | None


class TaskImage(Output):
    """An image of a task."""

    index: int = Field(description="Index of the candidate, from 0.")
    url: Url = Field(
        description="Absolute URL. It keeps working.",
        examples=["http://127.0.0.1:8080/media/generated/1790000000-a1b2c3.png"],
    )
    key: str = Field(description="Name of the image in storage.")
    image_source: Literal["sdxl-s3", "sdxl-local", "pexels", ""] = Field(
        description="Origin of the image, and the backend that stored it first."
    )
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    content_type: str
    size_bytes: int
    sha256: str = Field(description="SHA-256 of the bytes, hexadecimal.")
    thumbhash: str = Field(description="Blurred placeholder (ThumbHash), base64. It may be empty.")
    seed: int | None = Field(description="Seed that was used. null for a stock photo.")
    model: str = Field(description="Model that generated the image. Empty for a stock photo.")
    model_revision: str = Field(description="Revision of the weights.")
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    credit: str = Field(description="Credit for a stock photo. Empty for a generated image.")
    credit_url: str = Field(description="Web page of the stock photo.")

    @classmethod
    def from_messages(cls, *messages: Message, **given: Any) -> Self:
        """The shape of a tasks_pb2.TaskImage."""
        (message,) = messages
        assert isinstance(message, tasks_pb2.TaskImage)
        image, generation = message.image, message.generation
        photo = generation.attribution
        credit = f"Photo by {photo.author} on {photo.provider.capitalize()}" if photo.provider else ""
        return super().from_messages(
            message,
            image,
            image.file,
            generation,
            generation.parameters,
            credit=credit,
            credit_url=photo.source_url,
            **given,
        )


class TaskError(Output):
    """Why an attempt failed."""

    reason: str = Field(description="Stable name in UPPER_SNAKE_CASE.")
    message: str = Field(description="The reason, for people.")
    will_retry: bool = Field(description="Whether the queue tries again.")


class Task(Output):
    """A task."""

    id: Uuid
    state: TaskState
    terminal: bool = Field(description="Whether the state lasts until an editor decides or retries.")
    parameters: Parameters
    images: list[TaskImage]
    attempt_count: int = Field(description="Number of attempts that have begun.")
    max_attempts: int = Field(description="Number of attempts before the task fails.")
    error: TaskError | None = Field(description="Why the last attempt failed.")
    queue_position: int | None = Field(description="Number of tasks before this one. null unless it is queued.")
    post_id: Uuid | None = Field(description="The post that shows an image of this task.")
    approved_image_index: int | None = Field(description="Index of the image that an editor approved.")
    last_sequence: int = Field(description="Sequence of the latest stored event.")
    created_by: str
    updated_by: str
    create_time: Time
    update_time: Time
    etag: str = Field(description="Changes with every stored event of the task. Send it as If-Match, with its quotes.")

    @classmethod
    def from_messages(cls, *messages: Message, **given: Any) -> Self:
        """The shape of a tasks_pb2.Task."""
        (message,) = messages
        assert isinstance(message, tasks_pb2.Task)
        parameters = Parameters.from_messages(
            message.parameters,
            use_generation=message.parameters.source != generation_pb2.IMAGE_SOURCE_STOCK,
            candidate_count=max(1, message.candidate_count),
        )
        return super().from_messages(message, parameters=parameters, terminal=is_terminal(message), **given)


def is_terminal(message: tasks_pb2.Task) -> bool:
    """Whether the state of a task is terminal, by the option of the contract."""
    state = tasks_pb2.TaskState.DESCRIPTOR.values_by_number[message.state]
    return bool(state.GetOptions().Extensions[tasks_pb2.terminal])  # type: ignore[index]  # untyped in the stub


class TaskList(Output):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next_page_token: str = Field(description="Token of the next page. Empty on the last page.")


class TaskFilter(Input):
    """Which tasks to list."""

    model_config = ConfigDict(strict=False)
    messages = (tasks_pb2.ListTasksRequest,)

    state: TaskState | None = Field(None, description="Only tasks in this state.")
    page_size: int = Field(
        0, description="Largest number of tasks. A larger number than the limit counts as the limit."
    )
    page_token: str = Field("", description="`next_page_token` of the page before.")

    def request(self) -> tasks_pb2.ListTasksRequest:
        """The request of ListTasks."""
        request = tasks_pb2.ListTasksRequest()
        self.fill(request)
        return request
