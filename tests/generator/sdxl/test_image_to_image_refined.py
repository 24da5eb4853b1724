"""A picture that base and refiner share is what the two stock pipelines make of it, one after the other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.generator.models import ImageRequest
from services.generator.sdxl import schedulers
from services.generator.sdxl.engine import SdxlEngine
from tests.generator import tolerance
from tests.generator.diffusers_reference import Stock, difference, paint, run
from tests.generator.drawings import initial
from tests.generator.harness import request, sdxl


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Stock:
    return Stock(checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Path, refiner: Path) -> SdxlEngine:
    made = sdxl(checkpoint, refiner=str(refiner))
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def second(refiner: Path, stock: Stock) -> Stock:
    return Stock(refiner, vae=stock.image.vae)


def refined(strength: float, denoising_end: float, **changes: Any) -> ImageRequest:
    masked = changes.pop("masked", False)
    picture = initial(strength, masked=masked)
    values = {"num_inference_steps": 10, "initial_image": picture, "negative_prompt": "rain", **changes}
    return request(refiner="tiny-refiner", denoising_end=denoising_end, **values)


def follow(second: Stock, wanted: ImageRequest, half_done: torch.Tensor, **more: Any) -> torch.Tensor:
    second.image.scheduler = schedulers.make_scheduler(wanted.scheduler, second.config)
    return second.image(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        image=half_done[None],
        denoising_start=wanted.denoising_end,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        output_type="latent",
        **more,
    ).images[0]


@pytest.mark.parametrize("scheduler", schedulers.NAMES)
@pytest.mark.parametrize(("strength", "denoising_end"), [(0.5, 0.8), (1.0, 0.5)])
def test_it_ends_what_the_model_makes_of_a_picture(
    engine: SdxlEngine, stock: Stock, second: Stock, scheduler: str, strength: float, denoising_end: float
) -> None:
    wanted = refined(strength, denoising_end, scheduler=scheduler)
    generator = torch.Generator().manual_seed(wanted.seed)
    half_done = stock.paint(wanted, generator=generator, denoising_end=denoising_end)
    assert difference(
        paint(engine, wanted)[0], follow(second, wanted, half_done, generator=generator)
    ) <= tolerance.latents(wanted)


@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m", "heun", "unipc"])
def test_what_is_kept_is_kept_through_both(engine: SdxlEngine, stock: Stock, second: Stock, scheduler: str) -> None:
    """Between the two the stock pipelines would put the kept part back without its noise; here they may not."""
    wanted = refined(0.7, 0.7, scheduler=scheduler, masked=True)
    (sample,) = engine.prepare([wanted])
    kept = sample.kept  # type: ignore[attr-defined]
    run(engine, [sample])

    def hand_over(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return put_back(pipeline.scheduler, step + 1 == pipeline._num_timesteps and begin, tensors)

    def keep(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return put_back(pipeline.scheduler, None if step + 1 < pipeline._num_timesteps else "clean", tensors)

    def put_back(scheduler: Any, where: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if where is False:
            return tensors
        original = kept.original[None]
        if where != "clean":
            source, index = (scheduler, scheduler.step_index) if where is None else (fresh, where)
            timestep = source.timesteps[index : index + 1]
            original = source.add_noise(original, kept.noise[None], timestep)
        return {"latents": torch.where(kept.painted, tensors["latents"], original)}

    fresh = schedulers.make_scheduler(scheduler, second.config)
    fresh.set_timesteps(wanted.num_inference_steps)
    begin = len(fresh.timesteps) - len(sample.stages[1].timesteps)  # type: ignore[attr-defined]
    fresh.set_begin_index(begin)
    half_done = stock.paint(wanted, denoising_end=0.7, callback_on_step_end=hand_over)
    theirs = follow(second, wanted, half_done, callback_on_step_end=keep)
    assert difference(sample.latents, theirs) <= tolerance.latents(wanted)  # type: ignore[attr-defined]
    assert torch.equal(
        torch.where(kept.painted, kept.original, sample.latents),  # type: ignore[attr-defined]
        kept.original,
    )


def test_a_picture_that_comes_in_late_is_the_refiners_alone(engine: SdxlEngine, second: Stock) -> None:
    wanted = refined(0.35, 0.68)  # of ten steps the last three are done, and from the 690th timestep it refines
    (sample,) = engine.prepare([wanted])
    assert [len(stage.timesteps) for stage in sample.stages] == [0, 3]  # type: ignore[attr-defined]
    (ours,) = paint(engine, wanted)
    assert difference(ours, second.paint(wanted)) <= tolerance.latents(wanted)
