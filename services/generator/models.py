"""What the generator talks about: requests, events, capabilities. No protobuf, no torch."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SEED = 2**53 - 1


class ImageSource(Enum):
    """Where an image comes from."""

    GENERATED = "generated"
    STOCK = "stock"


@dataclass(frozen=True)
class IntegerRange:
    """min, min + step, …, max."""

    min: int
    max: int
    step: int
    default: int


@dataclass(frozen=True)
class FloatRange:
    """A real-valued parameter; `step` is for sliders only."""

    min: float
    max: float
    step: float
    default: float


@dataclass(frozen=True)
class ModelInfo:
    """One model and the true range of each of its parameters.

    `fp8_difference` is what 8-bit floats change in the UNet's guided prediction, relative, at the worst noise level;
    None: it computes without them, or is not loaded yet.
    """

    id: str
    revision: str
    description: str
    example_prompts: tuple[str, ...]
    schedulers: tuple[str, ...]
    max_prompt_length: int
    width: IntegerRange
    height: IntegerRange
    max_pixels: int
    num_inference_steps: IntegerRange
    guidance_scale: FloatRange
    previews: bool = True
    loras: tuple[str, ...] = ()
    refiner: str = ""
    refiner_revision: str = ""
    initial_images: bool = False
    fp8_difference: float | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA by name, and how strongly it is felt."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class InitialImage:
    """The picture to begin from as it came: encoded, not looked at yet. `mask` is b"" when all of it may change."""

    data: bytes = field(repr=False)
    strength: float | None = None
    mask: bytes = field(default=b"", repr=False)
    mask_feather: int | None = None


@dataclass(frozen=True)
class UsedInitialImage:
    """Which picture an image began from: enough to begin from it again. Without a mask `mask_sha256` is "".

    `mask_feather`: width of the soft border, in pixels; 0 for a hard one, or no mask.
    """

    sha256: str
    strength: float
    mask_sha256: str
    mask_feather: int = 0


@dataclass(frozen=True, eq=False)
class InitialPixels:
    """The picture to begin from, decoded, scaled and cut: `pixels` is (height, width, 3), as large as the image.

    `opacity`, (height, width), is how much of what is painted shows: 0 where the picture is kept, 1 where nothing of it
    is left, and what lies between on a soft border. None: the image may change everywhere.
    """

    pixels: "NDArray[np.uint8]" = field(repr=False)
    opacity: "NDArray[np.float32] | None" = field(repr=False)
    used: UsedInitialImage

    @property
    def painted(self) -> "NDArray[np.bool_] | None":
        """True where the image may change, (height, width); None: everywhere."""
        return None if self.opacity is None else self.opacity > 0


@dataclass(frozen=True)
class Draft:
    """A request as it came: None and "" mean the model's default."""

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    scheduler: str = ""
    model: str = ""
    preview_interval: int = 0
    loras: tuple[Lora, ...] = ()
    guidance_end: float | None = None
    denoising_end: float | None = None
    initial_image: InitialImage | None = None
    stock: bool = False


@dataclass(frozen=True)
class ImageRequest:
    """One image to paint, every parameter decided and checked."""

    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    preview_interval: int = 0
    loras: tuple[Lora, ...] = ()
    guidance_end: float = 1.0
    refiner: str = ""
    denoising_end: float | None = None
    initial_image: InitialPixels | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it needs in memory."""
        return (self.model, self.refiner) if self.refiner else (self.model,)


@dataclass(frozen=True)
class Queued:
    """`position` requests are before this one."""

    position: int


@dataclass(frozen=True)
class Progress:
    """`step` of `total_steps` done; `eta_seconds` until the image, None while unknown."""

    step: int
    total_steps: int
    eta_seconds: float | None


@dataclass(frozen=True)
class Preview:
    """A rough picture of the state so far, encoded."""

    content_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Attribution:
    """Credit for a stock photo."""

    provider: str
    author: str
    author_url: str
    source_url: str
    description: str


@dataclass(frozen=True)
class Painting:
    """How an image was painted: enough to paint it again."""

    seed: int
    model: str
    model_revision: str
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    batch_size: int
    loras: tuple[Lora, ...] = ()
    guidance_end: float = 1.0
    refiner: str = ""
    refiner_revision: str = ""
    denoising_end: float | None = None
    initial_image: UsedInitialImage | None = None


@dataclass(frozen=True)
class Image:
    """An encoded image: painted, or a stock photo with its attribution."""

    content_type: str
    data: bytes = field(repr=False)
    width: int
    height: int
    source: ImageSource
    painting: Painting | None = None
    attribution: Attribution | None = None


Event = Queued | Progress | Preview | Image


@dataclass(frozen=True)
class Load:
    """How busy the generator is."""

    slot_count: int
    free_slot_count: int
    queue_length: int
    queue_capacity: int
