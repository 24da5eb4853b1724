"""JSON of tasks: what to make, what became of it, and the editors' decision."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from gateway.schemas.pictures import InitialImage, UsedInitialImage
from gateway.schemas.posts import Post
from gateway.schemas.text import AltText, Comment, Content, Input, Line, Output, Prompt, Slug, Tags, Title, Uuid

MIN_SIDE = 256
MAX_SIDE = 1536
MAX_PIXELS = 1_600_000
MAX_STEPS = 80
MAX_GUIDANCE = 30.0
MAX_SEED = 2**53 - 1
MAX_CANDIDATES = 4
MAX_LORAS = 4

TaskState = Literal["queued", "generating", "awaiting_approval", "approved", "rejected", "cancelled", "failed"]

Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=8)]


class Lora(Input):
    """A LoRA and its strength."""

    name: Annotated[Line, Field(min_length=1, max_length=200)] = Field(description="One of the model's `loras`.")
    weight: float = Field(1.0, ge=-4, le=4, allow_inf_nan=False, description="How strongly it is felt.")


class NewTask(Input):
    """What to make. What is not given takes the model's default, which `GET /api/capabilities` tells."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt": "a lighthouse at dusk, oil on canvas", "use_generation": True, "seed": 7}]
        }
    )

    prompt: Prompt = Field(description="What to paint: NFC, without control characters.")
    use_generation: bool = Field(True, description="True: paint. False: find a stock photo.")
    task_id: Uuid | None = Field(None, description="A UUID of yours for the task; else the server chooses one.")
    negative_prompt: Annotated[Line, Field(max_length=2000)] = Field("", description="What to avoid.")
    width: Side | None = Field(None, description="Width in pixels, a multiple of 8.")
    height: Side | None = Field(None, description="Height in pixels, a multiple of 8; at most 1.6 megapixels in all.")
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(None, description="Denoising steps.")
    guidance_scale: Annotated[float, Field(ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)] | None = Field(
        None, description="How strictly to follow the prompt; 1 or less turns guidance off."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        None, description="Seed of the first candidate; candidate i uses seed + i."
    )
    scheduler: Annotated[str, Field(max_length=64, pattern=r"^[\x21-\x7e]*$")] = Field(
        "", description="Scheduler; empty: the model's default."
    )
    model: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e]*$")] = Field(
        "", description="Model; empty: the default one."
    )
    candidate_count: int = Field(1, ge=1, le=MAX_CANDIDATES, description="Images to choose from.")
    loras: list[Lora] = Field(default_factory=list, max_length=MAX_LORAS, description="LoRAs to add, each once.")
    guidance_end: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="The share of the steps that are guided, from the first on; steps after it cost half."
    )

    denoising_end: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = Field(
        None,
        description="The share of the noise that the model removes before its `refiner` goes on; with an "
        "`initial_image` greater than 1 - strength; unset: all.",
    )
    initial_image: InitialImage | None = Field(
        None,
        description="A picture to begin from. Without width and height the new one keeps its shape: its own size if "
        "the model can paint it, else about as many pixels as the model's default. Not for a stock photo.",
    )

    @field_validator("initial_image")
    @classmethod
    def _only_when_painted(cls, initial: InitialImage | None, info: ValidationInfo) -> InitialImage | None:
        if initial is not None and info.data.get("use_generation") is False:
            raise PydanticCustomError("stock", "must not be given for a stock photo (use_generation: false)")
        return initial

    @field_validator("loras")
    @classmethod
    def _each_once(cls, loras: list[Lora]) -> list[Lora]:
        if len({lora.name for lora in loras}) < len(loras):
            raise PydanticCustomError("loras", "must each be named once")
        return loras

    @field_validator("height")
    @classmethod
    def _few_enough_pixels(cls, height: int | None, info: ValidationInfo) -> int | None:
        width = info.data.get("width")
        if height and width and width * height > MAX_PIXELS:
            raise PydanticCustomError("pixels", "width × height must be at most 1,600,000 pixels")
        return height


class Parameters(Output):
    """What was asked for, with the seed that was chosen."""

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
    loras: list[Lora]
    guidance_end: float | None
    denoising_end: float | None
    initial_image: UsedInitialImage | None


class TaskImage(Output):
    """One image of a task."""

    index: int = Field(description="Which candidate, from 0.")
    url: str = Field(description="Absolute URL; it never breaks.", examples=["http://127.0.0.1:8080/media/generated/…"])
    key: str = Field(description="Name of the image in storage.")
    image_source: Literal["sdxl-s3", "sdxl-local", "pexels", ""] = Field(description="Where it comes from and stands.")
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    thumbhash: str = Field(description="Blurred placeholder, base64; may be empty.")
    seed: int | None = Field(description="The seed used; null for a stock photo.")
    model: str
    model_revision: str
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    credit: str = Field(description="Credit for a stock photo; empty when painted.")
    credit_url: str


class TaskError(Output):
    """Why an attempt failed."""

    reason: str = Field(description="Stable name in UPPER_SNAKE_CASE.")
    message: str
    will_retry: bool = Field(description="Whether the queue tries again by itself.")


class Task(Output):
    """A task."""

    id: str
    state: TaskState
    parameters: Parameters
    images: list[TaskImage]
    attempt_count: int
    max_attempts: int
    error: TaskError | None
    queue_position: int | None = Field(description="How many tasks are before it; null unless queued.")
    post_id: str | None = Field(description="The post made of it.")
    last_sequence: int = Field(description="Sequence of its latest stored event.")
    created_by: str
    updated_by: str
    create_time: str
    update_time: str


class TaskList(Output):
    """One page of tasks, newest first."""

    tasks: list[Task]
    next_page_token: str = Field(description="For the next page; empty on the last.")


class GeneratedImage(Output):
    """The picture of a task, or how far it is."""

    task_id: str
    state: TaskState
    image_url: str | None = Field(description="URL of the first image; null while there is none.")
    image_source: str | None = Field(description="`sdxl-s3`, `sdxl-local` or `pexels`.")
    width: int | None
    height: int | None
    seed: int | None
    credit: str | None = Field(description="Credit for a stock photo.")
    credit_url: str | None
    images: list[TaskImage]
    queue_position: int | None


class Approval(Input):
    """An editor's yes, and the post to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "The keeper's hour", "content": "Dusk, and the lamp is lit.", "tags": ["sea"]}]
        }
    )

    title: Title = Field(description="Title of the post.")
    content: Content = Field("", description="Text of the post, Markdown.")
    author_id: Uuid | None = Field(None, description="The author; else the first there is.")
    category_id: Uuid | None = Field(None, description="The category; else the first there is.")
    tags: Tags = Field(default_factory=list, description="Tag names.")
    slug: Slug | None = Field(None, description="Name in URLs; else made from the title.")
    alt_text: AltText = Field("", description="What the picture shows, for people who do not see it; else the prompt.")
    image_index: int = Field(0, ge=0, lt=MAX_CANDIDATES, description="Which of the task's images.")
    publish: bool = Field(True, description="False keeps the post a draft.")


class Approved(Output):
    """What became of an approved task."""

    task: Task
    post: Post


class Rejection(Input):
    """An editor's no."""

    comment: Comment = Field("", description="Why.")
