"""Measures the error of fp8: compares the output of the UNet for the same inputs, before and after quantisation.

The inputs are those of real images at every noise level of a short schedule, computed by the unquantised UNet. So the
levels are independent: an error at one level does not affect the next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from frontispiece.types.v1 import generation_pb2 as types

from services.generator.engine import CheckpointError
from services.generator.models import ImageRequest, InitialPixels, ModelInfo
from services.generator.sdxl.denoise import Batch, Unet, UnetInputs, unet_rows
from services.generator.sdxl.loaded_model import LoadedModel
from services.generator.sdxl.prepare import prepare_sample

Tensor = torch.Tensor

IMAGES, STEPS = 4, 10
_PROMPTS = (
    "a lighthouse at dusk",
    "a portrait of an old sailor, oil on canvas",
    "two apples on a blue table",
    "a street in the rain at night",
)
# A refiner is trained for the last noise levels only, those below about 0.3.
_REFINER_STRENGTH = 0.3


@dataclass(frozen=True)
class Step:
    """The inputs and the output of the UNet at one noise level."""

    inputs: UnetInputs
    out: Tensor


@dataclass(frozen=True)
class Recording:
    """The steps of a few images, either all guided or none."""

    steps: Sequence[Step]
    guidance_scale: float

    def predictions(self, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each image the prediction with the prompt, and the guided prediction."""
        positive, negative = out[:IMAGES].float(), out[IMAGES:].float()
        guided = negative + self.guidance_scale * (positive - negative) if len(negative) else positive
        yield from zip(positive, guided, strict=True)


@dataclass(frozen=True)
class Level:
    """The relative errors at one noise level (timestep): |difference| / |prediction| of the worst image."""

    timestep: float
    plain: float
    guided: float


@dataclass(frozen=True)
class Quality:
    """The levels, in the order of the schedule."""

    levels: Sequence[Level]

    @property
    def worst(self) -> Level:
        """The level with the largest error of the guided prediction; NaN counts as infinite."""
        return max(self.levels, key=lambda level: level.guided if level.guided == level.guided else float("inf"))


@torch.no_grad()
def record(model: LoadedModel, info: ModelInfo, *, is_refiner: bool) -> Recording:
    """Run a few images with the unquantised model. Raises CheckpointError when its output is not finite."""
    steps: list[Step] = []
    requests = [_request(info, number, is_refiner=is_refiner) for number in range(IMAGES)]
    samples = [
        prepare_sample(request, model, texts, None, None)
        for request, texts in zip(requests, model.prompts.encode_requests(requests, ()), strict=True)
    ]

    def listening(
        x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor, time_ids: Tensor, guidance: Tensor | None
    ) -> Tensor:
        # The inputs are new tensors for each step, but the next call may overwrite the output.
        out = model.unet(x, timestep, tokens, pooled, time_ids, guidance).clone()
        steps.append(Step((x, timestep, tokens, pooled, time_ids, guidance), out))
        return out

    while samples[0].steps_done < samples[0].total_steps:
        Batch(samples, unet_rows(samples), model.pipeline).step(samples, listening)
    if not all(bool(torch.isfinite(step.out).all()) for step in steps):
        raise CheckpointError(f"{info.id} generates no image: its values are not finite, before any fp8")
    return Recording(steps, requests[0].guidance_scale)


@torch.no_grad()
def compare(recording: Recording, unet: Unet) -> Quality:
    """The errors of `unet`, compared with the recording."""
    levels = []
    for step in recording.steps:
        pairs = zip(recording.predictions(step.out), recording.predictions(unet(*step.inputs)), strict=True)
        errors = [[_difference(was, now) for was, now in zip(before, after, strict=True)] for before, after in pairs]
        plain, guided = (torch.stack(kind).amax().item() for kind in zip(*errors, strict=True))
        levels.append(Level(float(step.inputs[1][0]), plain, guided))
    return Quality(levels)


def _difference(was: Tensor, now: Tensor) -> Tensor:
    difference: Tensor = (now - was).norm() / was.norm()
    return difference


def _request(info: ModelInfo, number: int, *, is_refiner: bool) -> ImageRequest:
    """A request with its own prompt and seed, the defaults of the model, and few steps."""
    prompts = (*info.example_prompts, *_PROMPTS)
    width, height = info.width.default, info.height.default
    steps = min(STEPS, info.num_inference_steps.default)
    return ImageRequest(
        model=info.id,
        prompt=prompts[number],
        negative_prompt="",
        width=width,
        height=height,
        num_inference_steps=round(steps / _REFINER_STRENGTH) if is_refiner else steps,
        guidance_scale=info.guidance_scale.default,
        seed=number,
        scheduler=info.schedulers[0],
        initial_image=_picture(width, height) if is_refiner else None,
    )


def _picture(width: int, height: int) -> InitialPixels:
    """An image to refine: soft waves in three colours."""
    row, column = np.mgrid[0:height, 0:width] / min(width, height)
    waves = [np.sin(7 * row + 3 * column), np.sin(5 * column - 4 * row), np.cos(9 * row * column)]
    pixels = (127.5 * (1 + np.stack(waves, axis=-1))).astype(np.uint8)
    return InitialPixels(pixels, None, types.InitialImage(strength=_REFINER_STRENGTH))
