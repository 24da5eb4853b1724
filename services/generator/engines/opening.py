"""From a request to a sample ready for its first step: prompts encoded, steps laid out, noise drawn."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from services.generator.engines import samplers, schedulers
from services.generator.engines.library import LoadedModel
from services.generator.engines.prompts import Embedding
from services.generator.engines.sample import Condition, SdxlSample, Stage
from services.generator.models import ImageRequest, Lora

# What diffusers tells the refiner of how beautiful the image, and the one to guide away from, shall be.
_SCORE, _NEGATIVE_SCORE = 6.0, 2.5

Texts = tuple[Embedding, Embedding]


def encode(model: LoadedModel, requests: Sequence[ImageRequest], loras: tuple[Lora, ...]) -> list[Texts]:
    """The embeddings of each request's prompt and negative prompt; all texts are encoded together."""
    positives = model.prompts.encode([request.prompt for request in requests], loras)
    negatives = model.prompts.encode_negative([request.negative_prompt for request in requests], positives, loras)
    return list(zip(positives, negatives, strict=True))


def open_sample(
    request: ImageRequest, model: LoadedModel, texts: Texts, refiner: LoadedModel | None, refiner_texts: Texts | None
) -> SdxlSample:
    """The sample of a request, its latents on the model's device. The refiner takes over at `denoising_end`."""
    device = model.pipeline.unet.device
    scheduler = _schedule(request, model)
    total = len(scheduler.timesteps)
    generator = torch.Generator().manual_seed(request.seed)
    # Always drawn on the CPU: the same seed gives the same noise on every device.
    shape = (1, *model.latent_shape(request.height, request.width))
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    latents = (noise * float(scheduler.init_noise_sigma))[0].to(device)
    if refiner is None or refiner_texts is None or request.denoising_end is None:
        stages = [_stage(request, request.model, request.loras, model, texts, scheduler)]
    else:
        cutoff = _cutoff(scheduler, request.denoising_end)
        count = sum(float(timestep) >= cutoff for timestep in scheduler.timesteps)
        stages = [_stage(request, request.model, request.loras, model, texts, scheduler, end=count)]
        second = _schedule(request, refiner)
        begin = _refiner_begin(second, _cutoff(second, request.denoising_end))
        stages.append(_stage(request, request.refiner, (), refiner, refiner_texts, second, begin=begin))
        total = sum(len(stage.timesteps) for stage in stages)
    return SdxlSample(
        request=request,
        stages=tuple(stages),
        generator=generator,
        latents=latents,
        clean=torch.zeros_like(latents),
        guided_steps=math.ceil(request.guidance_end * total),
    )


def _schedule(request: ImageRequest, model: LoadedModel) -> Any:
    scheduler = schedulers.make_scheduler(request.scheduler, model.scheduler_config)
    scheduler.set_timesteps(request.num_inference_steps)
    return scheduler


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
    texts: Texts,
    scheduler: Any,
    begin: int = 0,
    end: int | None = None,
) -> Stage:
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    distilled = model.pipeline.unet.config.time_cond_proj_dim is not None
    guided = request.guidance_scale > 1 and not distilled
    positive, negative = texts
    return Stage(
        model=name,
        loras=loras,
        positive=Condition(positive, _time_ids(request, model, _SCORE)),
        negative=Condition(negative, _time_ids(request, model, _NEGATIVE_SCORE)) if guided else None,
        scheduler=scheduler,
        timesteps=tuple(scheduler.timesteps[begin:end]),
        table=samplers.tabulate(scheduler, begin, end),
    )


def _time_ids(request: ImageRequest, model: LoadedModel, score: float) -> tuple[float, ...]:
    """Original size, corner of the crop, and target size; a refiner is told a score instead of the last."""
    size = (float(request.height), float(request.width))
    if model.pipeline.config.get("requires_aesthetics_score"):
        return (*size, 0.0, 0.0, score)
    return (*size, 0.0, 0.0, *size)
