"""The values that the generator works with: requests, events, models. No torch."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from frontispiece.types.v1 import generation_pb2 as types
from frontispiece.types.v1.image_pb2 import ImageFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class IntegerRange:
    """min, min + step, …, max."""

    min: int
    max: int
    step: int
    default: int


@dataclass(frozen=True)
class FloatRange:
    """Every number from min to max; `step` is a suggestion for sliders."""

    min: float
    max: float
    step: float
    default: float


@dataclass(frozen=True)
class ModelInfo:
    """A model and the range of each of its parameters: generator.v1.Model, and the revision of its refiner.

    The names of the ranges are those of the parameters: `resolve` looks a default up by name.
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
    """A LoRA by name, and its weight. Hashable, unlike types.v1.Lora: it is part of the keys of batches and caches."""

    name: str
    weight: float


@dataclass(frozen=True, eq=False)
class InitialPixels:
    """The initial image, decoded, scaled and cropped: `pixels` is (height, width, 3), as large as the new image.

    `opacity`, (height, width), is the share of the new image in each pixel: 0 where the initial image is kept, 1 where
    it is replaced, between them on the feathered edge. None: there is no mask. `used` has every default filled in.
    """

    pixels: "NDArray[np.uint8]" = field(repr=False)
    opacity: "NDArray[np.float32] | None" = field(repr=False)
    used: types.InitialImage
    sha256: str = ""
    mask_sha256: str = ""

    @property
    def painted(self) -> "NDArray[np.bool_] | None":
        """True where the image may change, (height, width); None: everywhere."""
        return None if self.opacity is None else self.opacity > 0


@dataclass(frozen=True)
class ImageRequest:
    """One image to generate: types.v1.GenerationParameters with every value checked and every default filled in.

    Fields with the name of a parameter have its value. The others: `refiner` is the id of the refiner that does the
    last steps ("": none), `preview_interval` the number of steps between two previews (0: none).
    """

    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    loras: tuple[Lora, ...] = ()
    guidance_end: float = 1.0
    denoising_end: float | None = None
    initial_image: InitialPixels | None = None
    clip_skip: int = 0
    refiner: str = ""
    preview_interval: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models that must be in memory."""
        return (self.model, self.refiner) if self.refiner else (self.model,)

    def parameters(self) -> types.GenerationParameters:
        """The parameters as they are used."""
        names = types.GenerationParameters.DESCRIPTOR.fields_by_name
        values = {name: getattr(self, name) for name in names if hasattr(self, name)}
        values["loras"] = [types.Lora(**asdict(lora)) for lora in self.loras]
        values["initial_image"] = self.initial_image.used if self.initial_image else None
        return types.GenerationParameters(**values, source=types.IMAGE_SOURCE_GENERATED)

    def generation(self, model: ModelInfo, batch_size: int) -> types.Generation:
        """How the image was made: by `model`, in batches of at most `batch_size`."""
        initial = self.initial_image
        return types.Generation(
            parameters=self.parameters(),
            model_revision=model.revision,
            refiner=self.refiner,
            refiner_revision=model.refiner_revision if self.refiner else "",
            batch_size=batch_size,
            initial_image_sha256=initial.sha256 if initial else "",
            mask_sha256=initial.mask_sha256 if initial else "",
        )


@dataclass(frozen=True)
class Queued:
    """`position` requests are before this one."""

    position: int


@dataclass(frozen=True)
class Progress:
    """`step` of `total_steps` done; `eta_seconds` until the image is ready, None while unknown."""

    step: int
    total_steps: int
    eta_seconds: float | None


@dataclass(frozen=True)
class Preview:
    """A small image of the current state, encoded."""

    content_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Image:
    """The finished image: its bytes, what describes them, and how it was made."""

    data: bytes = field(repr=False)
    file: ImageFile
    generation: types.Generation

    @classmethod
    def of(cls, data: bytes, content_type: str, size: tuple[int, int], generation: types.Generation) -> "Image":
        """`size` is (width, height) in pixels. Hashes `data`: about 1 ms a MB."""
        width, height = size
        file = ImageFile(
            content_type=content_type,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=width,
            height=height,
        )
        return cls(data, file, generation)


Event = Queued | Progress | Preview | Image


@dataclass(frozen=True)
class Load:
    """How busy the generator is; see GetCapabilitiesResponse."""

    slot_count: int
    free_slot_count: int
    queue_length: int
    queue_capacity: int
