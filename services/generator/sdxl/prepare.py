"""From a request to a sample that is ready for its first step: latents drawn or encoded, steps planned."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from services.generator.models import ImageRequest, Lora
from services.generator.sdxl import samplers, schedulers
from services.generator.sdxl.device_sync import to_device
from services.generator.sdxl.inpaint import KeptRegion, Level, painted_cells
from services.generator.sdxl.loaded_model import LoadedModel
from services.generator.sdxl.prompts import PromptPair
from services.generator.sdxl.sample import Conditioning, SdxlSample, Stage

# The aesthetic scores that diffusers gives the refiner, for the prompt and for the negative prompt.
_SCORE, _NEGATIVE_SCORE = 6.0, 2.5


@dataclass(frozen=True)
class _StepRange:
    """The steps of a schedule from `begin` up to `end`."""

    scheduler: Any
    begin: int
    end: int

    def levels(self) -> Iterator[Level]:
        """The noise level of the latents before each of these steps."""
        return (schedulers.noise_level(self.scheduler, step) for step in range(self.begin, self.end))


def prepare_sample(
    request: ImageRequest,
    model: LoadedModel,
    prompts: PromptPair,
    refiner: LoadedModel | None,
    refiner_prompts: PromptPair | None,
    *,
    in_tiles: bool = False,
) -> SdxlSample:
    """The sample of a request, its latents on the device of the model. The refiner takes over at `denoising_end`."""
    generator = torch.Generator().manual_seed(request.seed)
    ranges = _plan_steps(request, model, refiner)
    latents, kept = _first_latents(request, model, ranges, generator, in_tiles=in_tiles)
    stages = [_stage(request, request.model, request.loras, model, prompts, ranges[0])]
    if refiner is not None and refiner_prompts is not None:
        stages += [_stage(request, request.refiner, (), refiner, refiner_prompts, some) for some in ranges[1:]]
    return SdxlSample(
        request=request,
        stages=tuple(stages),
        generator=generator,
        latents=latents,
        clean=torch.zeros_like(latents),
        guided_steps=math.ceil(request.guidance_end * sum(len(stage.timesteps) for stage in stages)),
        kept=kept,
    )


def _plan_steps(request: ImageRequest, model: LoadedModel, refiner: LoadedModel | None) -> list[_StepRange]:
    """The steps of the model, and of the refiner if there is one: all, or those that the strength leaves."""
    first = model.schedules.get(request.scheduler, request.num_inference_steps)
    begin = _first_step(first, request)
    if refiner is None or request.denoising_end is None:
        return [_StepRange(first, begin, len(first.timesteps))]
    cutoff = _cutoff(first, request.denoising_end)
    count = sum(float(timestep) >= cutoff for timestep in first.timesteps)
    second = refiner.schedules.get(request.scheduler, request.num_inference_steps)
    # An initial image that enters after the cutoff is processed by the refiner alone.
    refiner_begin = max(begin, _refiner_begin(second, _cutoff(second, request.denoising_end)))
    return [_StepRange(first, begin, max(begin, count)), _StepRange(second, refiner_begin, len(second.timesteps))]


def _first_step(scheduler: Any, request: ImageRequest) -> int:
    """The first step that is done: rounded as the diffusers pipelines do, but at least one step is done."""
    if request.initial_image is None:
        return 0
    steps = request.num_inference_steps
    done = max(1, min(int(steps * request.initial_image.used.strength), steps))
    begin: int = (steps - done) * scheduler.order
    return begin


def _first_latents(
    request: ImageRequest,
    model: LoadedModel,
    ranges: list[_StepRange],
    generator: torch.Generator,
    *,
    in_tiles: bool,
) -> tuple[torch.Tensor, KeptRegion | None]:
    """The latents before the first step, and the region that inpainting keeps.

    Noise is drawn in the order of the diffusers pipelines for text, image and mask, so that a seed gives the same
    image.
    """
    device, initial = model.device, request.initial_image
    shape = model.latent_shape(request.height, request.width)
    if initial is None:
        return _draw(shape, generator, device) * float(ranges[0].scheduler.init_noise_sigma), None
    original = model.encoder.encode(initial.pixels, generator, in_tiles=in_tiles)
    noise = _draw(shape, generator, device)
    levels = (level for some in ranges for level in some.levels())
    signal, deviation = next(levels)
    latents = signal * original + deviation * noise
    if initial.painted is None:
        return latents, None
    _draw(shape, generator, device)  # diffusers also encodes the image without its masked part
    if initial.used.strength == 1:
        latents = noise * float(ranges[0].scheduler.init_noise_sigma)
    painted = to_device(painted_cells(initial.painted, *shape[1:]), device)
    return latents, KeptRegion(original, noise, painted, (*levels, (1.0, 0.0)))


def _draw(shape: tuple[int, int, int], generator: torch.Generator, device: Any) -> torch.Tensor:
    """Noise, always drawn on the CPU: a seed gives the same noise on every device."""
    return to_device(torch.randn((1, *shape), generator=generator, dtype=torch.float32)[0], device)


def _cutoff(scheduler: Any, denoising_end: float) -> int:
    """The timestep below which the refiner works, rounded as the diffusers pipelines do."""
    train_steps: int = scheduler.config.num_train_timesteps
    return round(train_steps - denoising_end * train_steps)


def _refiner_begin(scheduler: Any, cutoff: int) -> int:
    count = sum(float(timestep) < cutoff for timestep in scheduler.timesteps)
    if scheduler.order == 2 and count % 2 == 0:
        count += 1  # its steps are pairs, and it must begin with the first of a pair
    return len(scheduler.timesteps) - count


def _stage(
    request: ImageRequest,
    name: str,
    loras: tuple[Lora, ...],
    model: LoadedModel,
    prompts: PromptPair,
    steps: _StepRange,
) -> Stage:
    scheduler = steps.scheduler
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(steps.begin)
    distilled = model.pipeline.unet.config.time_cond_proj_dim is not None
    guided = request.guidance_scale > 1 and not distilled
    positive, negative = prompts
    return Stage(
        model=name,
        loras=loras,
        positive=Conditioning(positive, _time_ids(request, model, _SCORE)),
        negative=Conditioning(negative, _time_ids(request, model, _NEGATIVE_SCORE)) if guided else None,
        scheduler=scheduler,
        timesteps=tuple(scheduler.timesteps[steps.begin : steps.end]),
        table=samplers.tabulate(scheduler, steps.begin, steps.end),
    )


def _time_ids(request: ImageRequest, model: LoadedModel, score: float) -> tuple[float, ...]:
    """Original size, corner of the crop, and target size; for a refiner a score in place of the target size."""
    size = (float(request.height), float(request.width))
    if model.pipeline.config.get("requires_aesthetics_score"):
        return (*size, 0.0, 0.0, score)
    return (*size, 0.0, 0.0, *size)
