"""JSON of what the generator can do, of the gateway's state, and of problems."""

from pydantic import ConfigDict, Field

from gateway.schemas.text import Output


class IntegerRange(Output):
    """`min`, `min + step`, …, `max`."""

    min: int
    max: int
    step: int
    default: int


class FloatRange(Output):
    """Between `min` and `max`; `step` suits a slider."""

    min: float
    max: float
    step: float
    default: float


class Model(Output):
    """A model and the true range of each of its parameters."""

    id: str
    revision: str
    description: str
    example_prompts: list[str]
    schedulers: list[str] = Field(description="The first is the default.")
    max_prompt_length: int
    width: IntegerRange
    height: IntegerRange
    max_pixels: int
    num_inference_steps: IntegerRange
    guidance_scale: FloatRange
    previews: bool
    loras: list[str] = Field(description="Names that a task's `loras` may use.")
    refiner: str = Field(
        description="The model that ends what this one begins (`denoising_end`); empty: there is none."
    )
    initial_images: bool = Field(description="Whether a task may begin from a picture (`initial_image`).")
    fp8_difference: float | None = Field(
        description="What computing in 8-bit floats changes in the model's predictions, as a share of them, at worst; "
        "null: it does not, or the model is not loaded yet."
    )


class Capabilities(Output):
    """What the generator can do, and how busy it is."""

    models: list[Model] = Field(description="The first is the default.")
    slot_count: int
    free_slot_count: int
    queue_length: int
    queue_capacity: int
    device: str
    stock_available: bool


class Readiness(Output):
    """Whether the gateway can do its work."""

    ready: bool
    failing: dict[str, str] = Field(description="The services that do not answer, each with the reason.")


class ProblemField(Output):
    """One wrong field."""

    field: str = Field(description='Its name; "" is the body as a whole.', examples=["prompt"])
    message: str = Field(description="What is wrong with it.", examples=["must have at most 2000 characters"])


class ProblemDocument(Output):
    """RFC 9457: what went wrong."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "prompt: is required",
                    "code": "INVALID_ARGUMENT",
                    "errors": [{"field": "prompt", "message": "is required"}],
                    "request_id": "7a1c4bfe-64f8-4e0f-9d2f-0b9d2b2d7a55",
                }
            ]
        },
    )

    type: str
    title: str = Field(description="The HTTP status in words.")
    status: int
    detail: str = Field(description="For people.")
    code: str = Field(description="For programs: stable, in UPPER_SNAKE_CASE.")
    errors: list[ProblemField]
    request_id: str = Field(description="Also in the X-Request-Id header and in every log line.")
