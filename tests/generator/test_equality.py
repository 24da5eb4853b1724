"""An image from our loop, whatever it shares its steps with, is the stock pipeline's image for the same request."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from services.generator.engines import schedulers
from services.generator.engines.sdxl import SdxlEngine
from services.generator.models import ImageRequest
from tests.generator.harness import request, sdxl

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Any:
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.own_scheduler_config = pipeline.scheduler.config
    return pipeline


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> SdxlEngine:
    made = sdxl(checkpoint)
    made.warm_up()
    return made


def reference(stock: Any, wanted: ImageRequest) -> torch.Tensor:
    stock.scheduler = schedulers.make_scheduler(wanted.scheduler, stock.own_scheduler_config)
    return stock(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt or None,
        height=wanted.height,
        width=wanted.width,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="latent",
    ).images[0]


def paint(engine: SdxlEngine, *requests: ImageRequest) -> list[torch.Tensor]:
    samples = engine.open(requests)
    while going := [sample for sample in samples if sample.steps_done < sample.total_steps]:
        engine.step(going)
    return [sample.latents.clone() for sample in samples]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@pytest.mark.parametrize("scheduler", schedulers.NAMES)
def test_every_scheduler_alone(engine: SdxlEngine, stock: Any, scheduler: str, steps: int) -> None:
    if scheduler == "pndm" and steps == 1:
        pytest.skip("PNDM itself needs more than one step")
    wanted = request(scheduler=scheduler, num_inference_steps=steps)
    (ours,) = paint(engine, wanted)
    assert difference(ours, reference(stock, wanted)) <= TOLERANCE


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 7.5])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (104, 72)])
def test_every_size_and_guidance(engine: SdxlEngine, stock: Any, size: tuple[int, int], guidance: float) -> None:
    wanted = request(height=size[0], width=size[1], guidance_scale=guidance, negative_prompt="rain")
    (ours,) = paint(engine, wanted)
    assert difference(ours, reference(stock, wanted)) <= TOLERANCE


def test_mates_of_all_kinds(engine: SdxlEngine, stock: Any) -> None:
    requests = [
        request(scheduler=scheduler, seed=i, num_inference_steps=3 + i % 4, guidance_scale=(0.0, 4.0, 9.0)[i % 3])
        for i, scheduler in enumerate(schedulers.NAMES)
    ]
    for wanted, ours in zip(requests, paint(engine, *requests), strict=True):
        assert difference(ours, reference(stock, wanted)) <= TOLERANCE, wanted
