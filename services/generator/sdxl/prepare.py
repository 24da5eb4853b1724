"""From a request to a sample ready for its first step: prompts and picture encoded, steps laid out, noise drawn."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.generator.engine import InvalidRequest
from services.generator.models import ImageRequest, Lora
from services.generator.sdxl import samplers, schedulers
from services.generator.sdxl.device_sync import to_device
from services.generator.sdxl.inpaint import KeptRegion, Level, paint_cells
from services.generator.sdxl.loading.registry import LoadedModel
from services.generator.sdxl.prompt_chunks import PromptTooLong
from services.generator.sdxl.prompts import Embedding
from services.generator.sdxl.sample import Conditioning, SdxlSample, Stage

# What diffusers tells the refiner of how beautiful the image, and the one to guide away from, shall be.
_SCORE, _NEGATIVE_SCORE = 6.0, 2.5

PromptPair = tuple[Embedding, Embedding]


def encode_prompts(model: LoadedModel, requests: Sequence[ImageRequest], loras: tuple[Lora, ...]) -> list[PromptPair]:
    """The embeddings of each request's prompt and negative prompt. Raises InvalidRequest when one is too long."""
    with _naming("prompt"):
        positives = model.prompts.encode([request.prompt for request in requests], loras)
    with _naming("negative_prompt"):
        negatives = model.prompts.encode_negative([request.negative_prompt for request in requests], positives, loras)
    return list(zip(positives, negatives, strict=True))


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except PromptTooLong as error:
        raise InvalidRequest(field, str(error)) from None


@dataclass(frozen=True)
class _StepRange:
    """The steps of a schedule from `begin` up to `end`."""

    scheduler: Any
    begin: int
    end: int

    def levels(self) -> Iterator[Level]:
        """How noisy the latents are before each of these steps."""
        return (schedulers.noise_level(self.scheduler, step) for step in range(self.begin, self.end))


def prepare_sample(
    request: ImageRequest,
    model: LoadedModel,
    texts: PromptPair,
    refiner: LoadedModel | None,
    refiner_texts: PromptPair | None,
    *,
    in_tiles: bool = False,
) -> SdxlSample:
    """The sample of a request, its latents on the model's device. The refiner takes over at `denoising_end`."""
    generator = torch.Generator().manual_seed(request.seed)
    cuts = _lay_out(request, model, refiner)
    latents, kept = _first_latents(request, model, cuts, generator, in_tiles=in_tiles)
    stages = [_stage(request, request.model, request.loras, model, texts, cuts[0])]
    if refiner is not None and refiner_texts is not None:
        stages += [_stage(request, request.refiner, (), refiner, refiner_texts, cut) for cut in cuts[1:]]
    return SdxlSample(
        request=request,
        stages=tuple(stages),
        generator=generator,
        latents=latents,
        clean=torch.zeros_like(latents),
        guided_steps=math.ceil(request.guidance_end * sum(len(stage.timesteps) for stage in stages)),
        kept=kept,
    )


def _lay_out(request: ImageRequest, model: LoadedModel, refiner: LoadedModel | None) -> list[_StepRange]:
    """Which steps are done: all, or those that a picture's strength asks for, shared with the refiner if it has one."""
    first = model.schedules.lay_out(request.scheduler, request.num_inference_steps)
    begin = _picture_begin(first, request)
    if refiner is None or request.denoising_end is None:
        return [_StepRange(first, begin, len(first.timesteps))]
    cutoff = _cutoff(first, request.denoising_end)
    count = sum(float(timestep) >= cutoff for timestep in first.timesteps)
    second = refiner.schedules.lay_out(request.scheduler, request.num_inference_steps)
    # A picture that comes in after the cutoff is the refiner's alone.
    refiner_begin = max(begin, _refiner_begin(second, _cutoff(second, request.denoising_end)))
    return [_StepRange(first, begin, max(begin, count)), _StepRange(second, refiner_begin, len(second.timesteps))]


def _picture_begin(scheduler: Any, request: ImageRequest) -> int:
    """The first step after those that are left out, as the stock pipelines round it, but at least one step is done."""
    if request.initial_image is None:
        return 0
    steps = request.num_inference_steps
    done = max(1, min(int(steps * request.initial_image.used.strength), steps))
    begin: int = (steps - done) * scheduler.order
    return begin


def _first_latents(
    request: ImageRequest, model: LoadedModel, cuts: list[_StepRange], generator: torch.Generator, *, in_tiles: bool
) -> tuple[torch.Tensor, KeptRegion | None]:
    """The latents that the first step begins with, and what inpainting keeps of them.

    What is drawn, and in which order, is what the stock pipelines for text, for a picture and for a mask draw.
    """
    device, initial = model.device, request.initial_image
    shape = model.latent_shape(request.height, request.width)
    if initial is None:
        return _draw(shape, generator, device) * float(cuts[0].scheduler.init_noise_sigma), None
    original = model.encoder.encode(initial.pixels, generator, in_tiles=in_tiles)
    noise = _draw(shape, generator, device)
    levels = (level for cut in cuts for level in cut.levels())
    signal, deviation = next(levels)
    latents = signal * original + deviation * noise
    if initial.painted is None:
        return latents, None
    _draw(shape, generator, device)  # the stock pipeline encodes the picture without its painted part too
    if initial.used.strength == 1:
        latents = noise * float(cuts[0].scheduler.init_noise_sigma)
    painted = to_device(paint_cells(initial.painted, *shape[1:]), device)
    return latents, KeptRegion(original, noise, painted, (*levels, (1.0, 0.0)))


def _draw(shape: tuple[int, int, int], generator: torch.Generator, device: Any) -> torch.Tensor:
    """Noise, always drawn on the CPU: the same seed gives the same noise on every device."""
    return to_device(torch.randn((1, *shape), generator=generator, dtype=torch.float32)[0], device)


def _cutoff(scheduler: Any, denoising_end: float) -> int:
    """The timestep below which the refiner works, as the stock pipelines round it."""
    train_steps: int = scheduler.config.num_train_timesteps
    return round(train_steps - denoising_end * train_steps)


def _refiner_begin(scheduler: Any, cutoff: int) -> int:
    count = sum(float(timestep) < cutoff for timestep in scheduler.timesteps)
    if scheduler.order == 2 and count % 2 == 0:
        count += 1  # its steps are pairs, and it must begin with the first of one
    return len(scheduler.timesteps) - count


def _stage(
    request: ImageRequest,
    name: str,
    loras: tuple[Lora, ...],
    model: LoadedModel,
    texts: PromptPair,
    cut: _StepRange,
) -> Stage:
    scheduler = cut.scheduler
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(cut.begin)
    distilled = model.pipeline.unet.config.time_cond_proj_dim is not None
    guided = request.guidance_scale > 1 and not distilled
    positive, negative = texts
    return Stage(
        model=name,
        loras=loras,
        positive=Conditioning(positive, _time_ids(request, model, _SCORE)),
        negative=Conditioning(negative, _time_ids(request, model, _NEGATIVE_SCORE)) if guided else None,
        scheduler=scheduler,
        timesteps=tuple(scheduler.timesteps[cut.begin : cut.end]),
        table=samplers.tabulate(scheduler, cut.begin, cut.end),
    )


def _time_ids(request: ImageRequest, model: LoadedModel, score: float) -> tuple[float, ...]:
    """Original size, corner of the crop, and target size; a refiner is told a score instead of the last."""
    size = (float(request.height), float(request.width))
    if model.pipeline.config.get("requires_aesthetics_score"):
        return (*size, 0.0, 0.0, score)
    return (*size, 0.0, 0.0, *size)
