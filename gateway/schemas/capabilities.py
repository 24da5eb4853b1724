"""JSON of the capabilities of the generator, the limits of all fields, and the readiness of the gateway."""

from frontispiece.storage.v1 import images_pb2
from pydantic import Field

from gateway.schemas import decisions, posts, tasks
from gateway.schemas.base import Output
from gateway.schemas.images import InitialImage
from gateway.schemas.limits import FieldLimit, field_of, form_limits


class IntegerRange(Output):
    """The values `min`, `min + step`, …, `max`."""

    min: int
    max: int
    step: int
    default: int


class FloatRange(Output):
    """The values from `min` to `max`."""

    min: float
    max: float
    step: float = Field(description="A suitable step for a slider. Values in between are accepted.")
    default: float


class Model(Output):
    """A model and the range of each of its parameters."""

    id: str = Field(description="Value for `model`.")
    revision: str = Field(description="Revision of the weights.")
    description: str = Field(description="What the model is, and what it is good at.")
    example_prompts: list[str] = Field(description="Prompts that suit the model.")
    schedulers: list[str] = Field(description="Values for `scheduler`. The first is the default.")
    max_prompt_length: int = Field(description="Largest number of characters of a prompt.")
    width: IntegerRange = Field(description="Width in pixels.")
    height: IntegerRange = Field(description="Height in pixels.")
    max_pixels: int = Field(description="Largest width × height.")
    num_inference_steps: IntegerRange = Field(description="Number of denoising steps.")
    guidance_scale: FloatRange = Field(description="Classifier-free guidance scale. 1 or less turns guidance off.")
    previews: bool = Field(description="Whether events include previews.")
    loras: list[str] = Field(description="Values for the name of a LoRA in `loras`.")
    refiner: str = Field(description="The refiner that `denoising_end` hands over to. Empty: there is none.")
    initial_images: bool = Field(description="Whether the model can start from an image (`initial_image`).")
    fp8_difference: float | None = Field(
        description="Largest relative error that 8-bit floating point causes in the predictions of the model. null: "
        "8-bit floating point is off, or the model is not loaded."
    )


Limits = dict[str, dict[str, dict[str, FieldLimit]]]

LIMITS: Limits = {
    "task": tasks.NewTask.limits(),
    "initial_image": InitialImage.limits(),
    "lora": tasks.Lora.limits(),
    "approval": decisions.Approval.limits(),
    "rejection": decisions.Rejection.limits(),
    "post": posts.NewPost.limits(),
    "author": posts.NewAuthor.limits(),
    "category": posts.NewCategory.limits(),
    "upload": {"size_bytes": form_limits(field_of(images_pb2.StoreImageHeader, "size_bytes"))},
}


class Capabilities(Output):
    """What the generator can do, how busy it is, and the limits of all fields."""

    models: list[Model] = Field(description="The models. The first is the default.")
    slot_count: int = Field(description="Number of images that can be generated at once.")
    free_slot_count: int = Field(description="Number of slots that are free and for which no request waits.")
    queue_length: int = Field(description="Number of waiting requests.")
    queue_capacity: int = Field(description="Number of requests that may wait.")
    device: str = Field(description="The device of the models: `cuda` or `cpu`.")
    stock_available: bool = Field(description="Whether stock photos are configured.")
    limits: Limits = Field(
        LIMITS,
        description="The limits of each field, by kind of request: `limits.task.width.min`. A limit that is not listed "
        "does not apply. A model may allow less.",
    )


class Readiness(Output):
    """Whether the gateway and all services are ready."""

    ready: bool
    failing: dict[str, str] = Field(description="The services that are not ready, each with the reason.")
    message: str = Field(description="The state in words: `ready`, `the model is loading`, …")
