"""Whether the pictures stand fp8: the UNet is given the same inputs before and after, and its answers are compared.

The inputs are those of real images in the making, at every noise level of a short schedule, as the unquantised UNet
makes them: so the levels are told apart, and an error at one does not pass for an error at the next.
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
# A refiner only knows the last noise levels, those below about 0.3.
_REFINER_STRENGTH = 0.3


@dataclass(frozen=True)
class Step:
    """What the UNet was given at one noise level, and what it answered."""

    inputs: UnetInputs
    out: Tensor


@dataclass(frozen=True)
class Recording:
    """The steps of a few images, all of them guided or none."""

    steps: Sequence[Step]
    guidance_scale: float

    def predictions(self, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each image, what the UNet predicts with the prompt, and with guidance."""
        positive, negative = out[:IMAGES].float(), out[IMAGES:].float()
        guided = negative + self.guidance_scale * (positive - negative) if len(negative) else positive
        yield from zip(positive, guided, strict=True)


@dataclass(frozen=True)
class Level:
    """How far the predictions of one noise level (timestep) are off: |difference| / |prediction| of the worst image."""

    timestep: float
    plain: float
    guided: float


@dataclass(frozen=True)
class Quality:
    """The levels, in the order of the schedule."""

    levels: Sequence[Level]

    @property
    def worst(self) -> Level:
        """The level where the guided prediction is off the most; one that is not finite is worse than any."""
        return max(self.levels, key=lambda level: level.guided if level.guided == level.guided else float("inf"))


@torch.no_grad()
def record(model: LoadedModel, info: ModelInfo, *, is_refiner: bool) -> Recording:
    """Paint a few images a short way with the model as it is. Raises CheckpointError when that gives no numbers."""
    steps: list[Step] = []
    requests = [_request(info, number, is_refiner=is_refiner) for number in range(IMAGES)]
    samples = [
        prepare_sample(request, model, texts, None, None)
        for request, texts in zip(requests, model.prompts.encode_requests(requests, ()), strict=True)
    ]

    def listening(
        x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor, time_ids: Tensor, guidance: Tensor | None
    ) -> Tensor:
        # What a batch gives is made anew for each step, but the next call may write over what comes back.
        out = model.unet(x, timestep, tokens, pooled, time_ids, guidance).clone()
        steps.append(Step((x, timestep, tokens, pooled, time_ids, guidance), out))
        return out

    while samples[0].steps_done < samples[0].total_steps:
        Batch(samples, unet_rows(samples), model.pipeline).step(samples, listening)
    if not all(bool(torch.isfinite(step.out).all()) for step in steps):
        raise CheckpointError(f"{info.id} paints no picture: its numbers are not finite, before any fp8")
    return Recording(steps, requests[0].guidance_scale)


@torch.no_grad()
def compare(recording: Recording, unet: Unet) -> Quality:
    """How far `unet` is off what was recorded."""
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
    """Different prompts and seeds, the rest by default, in few steps."""
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
    """Something to refine: soft waves in three colours."""
    row, column = np.mgrid[0:height, 0:width] / min(width, height)
    waves = [np.sin(7 * row + 3 * column), np.sin(5 * column - 4 * row), np.cos(9 * row * column)]
    pixels = (127.5 * (1 + np.stack(waves, axis=-1))).astype(np.uint8)
    return InitialPixels(pixels, None, types.InitialImage(strength=_REFINER_STRENGTH))
