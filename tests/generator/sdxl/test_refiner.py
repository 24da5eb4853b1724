"""Base and refiner: an image is what the two stock pipelines, one after the other, make of the same request."""

from pathlib import Path
from typing import Any

import diffusers
import grpc
import pytest
import torch

from rpc import errors
from services.generator.engine import CheckpointError
from services.generator.models import ImageRequest
from services.generator.sdxl import schedulers
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.loading.tiny import make_checkpoint
from tests.generator import tolerance
from tests.generator.harness import cpu_options, request, sdxl, serve


@pytest.fixture(scope="module")
def engine(checkpoint: Path, refiner: Path) -> SdxlEngine:
    made = sdxl(checkpoint, refiner=str(refiner))
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def stock(checkpoint: Path, refiner: Path) -> tuple[Any, Any]:
    base = diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint, use_safetensors=True)
    second = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(refiner, use_safetensors=True)
    for pipeline in (base, second):
        pipeline.set_progress_bar_config(disable=True)
        pipeline.own_scheduler_config = pipeline.scheduler.config
    return base, second


def refined(denoising_end: float = 0.8, **changes: Any) -> ImageRequest:
    return request(refiner="tiny-refiner", denoising_end=denoising_end, **{"num_inference_steps": 10, **changes})


def reference(stock: tuple[Any, Any], wanted: ImageRequest) -> torch.Tensor:
    generator = torch.Generator().manual_seed(wanted.seed)
    common = {
        "prompt": wanted.prompt,
        "negative_prompt": wanted.negative_prompt or None,
        "num_inference_steps": wanted.num_inference_steps,
        "guidance_scale": wanted.guidance_scale,
        "generator": generator,
        "output_type": "latent",
    }
    base, second = stock
    for pipeline in stock:
        pipeline.scheduler = schedulers.make_scheduler(wanted.scheduler, pipeline.own_scheduler_config)
    size = {"height": wanted.height, "width": wanted.width}
    half_done = base(**common, **size, denoising_end=wanted.denoising_end).images
    return second(**common, image=half_done, denoising_start=wanted.denoising_end).images[0]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def run(engine: SdxlEngine, samples: list[Any]) -> None:
    """As the engine thread does: each turn one step of one batch key."""
    while going := [sample for sample in samples if sample.steps_done < sample.total_steps]:
        batch_key = min((sample.batch_key for sample in going), key=str)
        engine.step([sample for sample in going if sample.batch_key == batch_key])


@pytest.mark.parametrize("denoising_end", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("scheduler", schedulers.NAMES)
def test_every_scheduler(engine: SdxlEngine, stock: Any, scheduler: str, denoising_end: float) -> None:
    wanted = refined(denoising_end, scheduler=scheduler)
    samples = list(engine.prepare([wanted]))
    run(engine, samples)
    assert difference(samples[0].latents, reference(stock, wanted)) <= tolerance.latents(wanted)


@pytest.mark.parametrize(("steps", "denoising_end"), [(2, 0.01), (2, 0.99), (3, 0.5)])
def test_a_stage_may_have_no_steps(engine: SdxlEngine, steps: int, denoising_end: float) -> None:
    samples = list(engine.prepare([refined(denoising_end, num_inference_steps=steps)]))
    run(engine, samples)
    assert samples[0].steps_done == samples[0].total_steps == steps
    assert torch.isfinite(samples[0].latents).all()


@pytest.mark.parametrize("guidance", [0.0, 7.5])
@pytest.mark.parametrize("negative", ["", "rain"])
def test_guidance_and_negative_prompts(engine: SdxlEngine, stock: Any, guidance: float, negative: str) -> None:
    wanted = refined(guidance_scale=guidance, negative_prompt=negative, height=72)
    samples = list(engine.prepare([wanted]))
    run(engine, samples)
    assert difference(samples[0].latents, reference(stock, wanted)) <= tolerance.latents(wanted)


def test_mates_of_all_kinds(engine: SdxlEngine, stock: Any) -> None:
    """They share the base's steps with images that are not refined, and then the refiner's with each other."""
    wanted = [refined(0.5 + i / 10, seed=i, scheduler=name) for i, name in enumerate(("euler", "dpmpp_2m", "heun"))]
    plain = request(seed=9, num_inference_steps=10)
    samples = [*engine.prepare(wanted), *engine.prepare([plain])]
    assert len({sample.batch_key for sample in samples}) == 1
    run(engine, samples)
    for sample, one in zip(samples, wanted, strict=False):
        assert difference(sample.latents, reference(stock, one)) <= tolerance.latents(one)
    alone = list(engine.prepare([plain]))
    run(engine, alone)
    assert difference(samples[-1].latents, alone[0].latents) <= tolerance.latents(plain)


def test_on_one_rung_mates_leave_no_trace(checkpoint: Path, refiner: Path) -> None:
    engine = sdxl(checkpoint, refiner=str(refiner), ladder="6")
    engine.warm_up()
    wanted = [refined(0.6, seed=i) for i in range(3)]
    together = list(engine.prepare(wanted))
    while together[0].batch_key == together[2].batch_key and together[0].stage_number == 0:
        engine.step(together)
    leaver = together.pop(1)  # leaves between base and refiner
    assert leaver.stage_number == 1
    run(engine, together)
    for sample in together:
        alone = list(engine.prepare([sample.request]))
        run(engine, alone)
        assert torch.equal(sample.latents, alone[0].latents)


def test_the_refiner_decodes_what_it_ends(engine: SdxlEngine, stock: Any) -> None:
    wanted = refined()
    samples = list(engine.prepare([wanted]))
    run(engine, samples)
    (pixels,) = engine.decode(samples)
    vae = stock[1].vae
    latents = samples[0].latents[None] / vae.config.scaling_factor
    theirs = (vae.decode(latents).sample[0] / 2 + 0.5).clamp(0, 1).mul(255).round().permute(1, 2, 0)
    assert (theirs.to(torch.int16).numpy() - pixels).max() <= 1


async def test_through_the_service(checkpoint: Path, refiner: Path) -> None:
    async with serve(sdxl(checkpoint, refiner=str(refiner))) as client:
        reply = await client.generate(prompt="a", seed=1, num_inference_steps=10, denoising_end=0.8)
        assert (reply.parameters.model, reply.generation.refiner) == ("tiny", "tiny-refiner")
        assert reply.parameters.denoising_end == 0.8
        assert len(reply.generation.refiner_revision) == 40
        assert reply.all("progress")[-1].total_steps == 10
        plain = await client.generate(prompt="a", seed=1, num_inference_steps=10)
        assert (plain.generation.refiner, plain.parameters.HasField("denoising_end")) == ("", False)
        (model,) = (await client.capabilities()).models
        assert model.refiner == "tiny-refiner"
        for wrong in (0.0, 1.0, -1.0, float("nan")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.generate(prompt="a", denoising_end=wrong)
            error = errors.from_call(caught.value)
            assert isinstance(error, errors.InvalidArgument)
            assert [violation.field for violation in error.violations] == ["parameters.denoising_end"]


async def test_a_budget_that_holds_one_model_is_exceeded_rather_than_never_met(checkpoint: Path, refiner: Path) -> None:
    async with serve(sdxl(checkpoint, refiner=str(refiner), memory_budget_gib=0.001)) as client:
        assert (await client.generate(prompt="a", num_inference_steps=5, denoising_end=0.6)).generation.refiner


class TestRefused:
    def test_a_base_model_as_refiner(self, checkpoint: Path) -> None:
        with pytest.raises(CheckpointError, match="Img2Img"):
            sdxl(checkpoint, refiner=str(checkpoint)).warm_up()

    def test_a_refiner_as_base_model(self, refiner: Path) -> None:
        with pytest.raises(CheckpointError, match="StableDiffusionXLPipeline"):
            sdxl(refiner).warm_up()

    def test_one_that_suits_no_model(self, tmp_path: Path, refiner: Path) -> None:
        make_checkpoint(tmp_path / "sdxl-turbo", size=64)
        source = ModelSource("sdxl-turbo", str(tmp_path / "sdxl-turbo"))
        (tmp_path / "sdxl-turbo" / "frontispiece.json").unlink()
        with pytest.raises(CheckpointError, match="suits none"):
            SdxlEngine([source], cpu_options(tmp_path, refiner=str(refiner))).warm_up()
