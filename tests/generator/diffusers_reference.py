"""The stock pipelines for texts, pictures and masks, and our loop, asked for the same thing."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from services.generator.models import ImageRequest, InitialPixels
from services.generator.sdxl import schedulers
from services.generator.sdxl.engine import SdxlEngine


class Stock:
    """The stock pipelines over one checkpoint."""

    def __init__(self, checkpoint: Path, **components: Any) -> None:
        self.image = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(
            checkpoint, use_safetensors=True, dtype=torch.float32, **components
        )
        self.mask = diffusers.StableDiffusionXLInpaintPipeline(**self.image.components, add_watermarker=False)
        self.config = self.image.scheduler.config
        for pipeline in (self.image, self.mask):
            pipeline.set_progress_bar_config(disable=True)

    def paint(self, wanted: ImageRequest, **more: Any) -> torch.Tensor:
        assert wanted.initial_image is not None
        pipeline, scheduler = self.image, schedulers.make_scheduler(wanted.scheduler, self.config)
        if wanted.initial_image.painted is not None:
            pipeline = self.mask
            more |= {"mask_image": whole_cells(wanted.initial_image), "height": wanted.height, "width": wanted.width}
        pipeline.scheduler = scheduler
        return pipeline(
            wanted.prompt,
            negative_prompt=wanted.negative_prompt or None,
            image=Image.fromarray(wanted.initial_image.pixels),
            strength=wanted.initial_image.used.strength,
            num_inference_steps=wanted.num_inference_steps,
            guidance_scale=wanted.guidance_scale,
            **{"generator": torch.Generator().manual_seed(wanted.seed), "output_type": "latent", **more},
        ).images[0]


def text_pipeline(checkpoint: Path) -> Any:
    """The stock pipeline for texts; it remembers the checkpoint's scheduler for `reference`, which puts others in."""
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.own_scheduler_config = pipeline.scheduler.config
    return pipeline


def reference(stock: Any, wanted: ImageRequest) -> torch.Tensor:
    """What that pipeline makes of a request without a picture."""
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


def whole_cells(initial: InitialPixels) -> Image.Image:
    """The mask grown to whole latents: the stock pipeline looks at one pixel of each only."""
    assert initial.painted is not None
    height, width = initial.painted.shape
    cells = initial.painted.reshape(height // 8, 8, width // 8, 8).max(axis=(1, 3))
    return Image.fromarray(np.kron(cells, np.ones((8, 8), np.uint8)).astype(np.uint8) * 255)


def run(engine: SdxlEngine, samples: list[Any]) -> None:
    """As the engine thread does: each turn one step of one batch key."""
    while going := [sample for sample in samples if sample.steps_done < sample.total_steps]:
        batch_key = min((sample.batch_key for sample in going), key=str)
        engine.step([sample for sample in going if sample.batch_key == batch_key])


def paint(engine: SdxlEngine, *requests: ImageRequest) -> list[torch.Tensor]:
    samples: list[Any] = list(engine.prepare(requests))
    run(engine, samples)
    return [sample.latents.clone() for sample in samples]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())
