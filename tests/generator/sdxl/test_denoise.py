"""An image from our loop, whatever it shares its steps with, is the stock pipeline's image for the same request."""

import inspect
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.generator.models import ImageRequest
from services.generator.sdxl import samplers, schedulers
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.tiny import build_pipeline
from tests.generator import tolerance
from tests.generator.diffusers_reference import difference, paint, reference, text_pipeline
from tests.generator.harness import request, sdxl


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Any:
    return text_pipeline(checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> SdxlEngine:
    made = sdxl(checkpoint)
    made.warm_up()
    return made


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@pytest.mark.parametrize("scheduler", schedulers.NAMES)
def test_every_scheduler_alone(engine: SdxlEngine, stock: Any, scheduler: str, steps: int) -> None:
    if scheduler == "pndm" and steps == 1:
        pytest.skip("PNDM itself needs more than one step")
    wanted = request(scheduler=scheduler, num_inference_steps=steps)
    (ours,) = paint(engine, wanted)
    assert difference(ours, reference(stock, wanted)) <= tolerance.latents(wanted)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 7.5])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (104, 72)])
def test_every_size_and_guidance(engine: SdxlEngine, stock: Any, size: tuple[int, int], guidance: float) -> None:
    wanted = request(height=size[0], width=size[1], guidance_scale=guidance, negative_prompt="rain")
    (ours,) = paint(engine, wanted)
    assert difference(ours, reference(stock, wanted)) <= tolerance.latents(wanted)


def test_mates_of_all_kinds(engine: SdxlEngine, stock: Any) -> None:
    requests = [
        request(scheduler=scheduler, seed=i, num_inference_steps=3 + i % 4, guidance_scale=(0.0, 4.0, 9.0)[i % 3])
        for i, scheduler in enumerate(schedulers.NAMES)
    ]
    for wanted, ours in zip(requests, paint(engine, *requests), strict=True):
        assert difference(ours, reference(stock, wanted)) <= tolerance.latents(wanted), wanted


@pytest.mark.parametrize("scheduler", schedulers.NAMES)
def test_two_with_the_same_schedule_at_different_steps(engine: SdxlEngine, stock: Any, scheduler: str) -> None:
    requests = [request(scheduler=scheduler, seed=seed, num_inference_steps=5) for seed in (1, 2)]
    samples = list(engine.prepare(requests[:1]))
    for _ in range(2):
        engine.step(samples)
    samples += engine.prepare(requests[1:])
    while going := [sample for sample in samples if sample.steps_done < sample.total_steps]:
        engine.step(going)
    for wanted, sample in zip(requests, samples, strict=True):
        assert difference(sample.latents, reference(stock, wanted)) <= tolerance.latents(wanted)


def test_only_schedules_that_are_tables_are_shared(stock: Any) -> None:
    kept = schedulers.SchedulerCache(stock.own_scheduler_config)
    assert kept.get("euler", 5) is kept.get("euler", 5)
    assert kept.get("euler", 5) is not kept.get("euler", 6)
    assert len(kept.get("euler", 6).timesteps) == 6
    assert kept.get("unipc", 5) is not kept.get("unipc", 5)


def sorts() -> list[ImageRequest]:
    """Requests of every kind that can meet in a batch."""
    return [
        request(scheduler="euler", seed=1, num_inference_steps=5),
        request(scheduler="dpmpp_2m", seed=2, num_inference_steps=6, guidance_scale=0.0),
        request(scheduler="dpmpp_2m_sde_karras", seed=3, num_inference_steps=4, negative_prompt="rain"),
        request(scheduler="euler_ancestral", seed=4, num_inference_steps=7, prompt="a fox", guidance_scale=2.0),
        request(scheduler="heun", seed=5, num_inference_steps=3),
    ]


@pytest.mark.parametrize("step", range(8))
def test_joining_at_every_step(engine: SdxlEngine, stock: Any, step: int) -> None:
    first, *others = sorts()
    first = replace(first, num_inference_steps=9)
    going = list(engine.prepare([first]))
    for _ in range(step):
        engine.step(going)
    going += engine.prepare(others)
    everyone = list(going)
    while going:
        engine.step(going)
        going = [sample for sample in going if sample.steps_done < sample.total_steps]
    for sample in everyone:
        assert difference(sample.latents, reference(stock, sample.request)) <= tolerance.latents(sample.request)


@pytest.mark.parametrize("step", range(1, 4))
@pytest.mark.parametrize("leaver", range(5))
def test_leaving_at_every_step_is_not_noticed(engine: SdxlEngine, step: int, leaver: int) -> None:
    whole, left = list(engine.prepare(sorts())), list(engine.prepare(sorts()))
    for number in range(4):
        engine.step(whole)
        if number == step:
            del left[leaver]
        engine.step(left)
    del whole[leaver]
    for one, other in zip(whole, left, strict=True):
        assert difference(one.latents, other.latents) <= tolerance.latents(one.request)


@pytest.mark.parametrize("rung", [9, 12])
def test_padding_is_inert_bit_for_bit(checkpoint: Path, rung: int) -> None:
    """On one rung an image depends on nothing else that is painted, not in its last bit."""
    padded = sdxl(checkpoint, ladder=str(rung))
    padded.warm_up()
    alone = [paint(padded, wanted)[0] for wanted in sorts()]
    for one, other in zip(alone, paint(padded, *sorts()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("end", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_guidance_may_end_early(engine: SdxlEngine, stock: Any, end: float) -> None:
    wanted = request(num_inference_steps=6, guidance_end=end, negative_prompt="rain")
    mate = request(num_inference_steps=6, seed=8)
    ours, _ = paint(engine, wanted, mate)
    guided_steps = math.ceil(end * 6)

    def stop_guidance(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == guided_steps - 1:
            pipeline._guidance_scale = 0.0
            return {name: tensor.chunk(2)[1] for name, tensor in tensors.items()}
        return tensors

    stock.scheduler = schedulers.make_scheduler("euler", stock.own_scheduler_config)
    theirs = stock(
        wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        height=64,
        width=64,
        num_inference_steps=6,
        guidance_scale=wanted.guidance_scale if guided_steps else 0.0,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="latent",
        callback_on_step_end=stop_guidance,
        callback_on_step_end_tensor_inputs=["prompt_embeds", "add_text_embeds", "add_time_ids"],
    ).images[0]
    assert difference(ours, theirs) <= tolerance.latents(wanted)


def test_pixels_are_the_stock_pipelines(engine: SdxlEngine, stock: Any) -> None:
    wanted = request()
    (sample,) = engine.prepare([wanted])
    while sample.steps_done < sample.total_steps:
        engine.step([sample])
    (ours,) = engine.decode([sample])
    stock.scheduler = schedulers.make_scheduler("euler", stock.own_scheduler_config)
    theirs = stock(
        wanted.prompt,
        height=64,
        width=64,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="pil",
    ).images[0]
    assert np.abs(np.asarray(theirs).astype(int) - ours).max() <= 1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", ["euler", "euler_ancestral", "ddim", "dpmpp_2m", "dpmpp_2m_sde", "lcm"])
@pytest.mark.parametrize("steps", [2, 20])
def test_every_table_against_its_scheduler(scheduler: str, prediction: str, steps: int) -> None:
    """Without a model: what the UNet would say is made up, a different thing at each step."""
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction}
    made = schedulers.make_scheduler(scheduler, config)
    made.set_timesteps(steps)
    made.set_begin_index(0) if hasattr(made, "set_begin_index") else None
    table = samplers.tabulate(made)
    if table is None:
        assert (scheduler, prediction) == ("euler_ancestral", "sample")
        return
    ours = theirs = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0)) * table.initial_scale
    clean = torch.zeros_like(ours)
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    takes_generator = "generator" in inspect.signature(made.step).parameters
    for step, timestep in enumerate(made.timesteps):
        scale, t, p, q, a, b, c, s = table.rows[step]
        assert float(t) == float(timestep)
        assert difference(ours * scale, made.scale_model_input(theirs, timestep)) <= tolerance.sampler(step + 1)
        out = torch.randn(ours.shape, generator=torch.Generator().manual_seed(100 + step))
        noise = torch.randn(ours.shape, generator=one) if table.draws[step] else torch.zeros_like(ours)
        before, clean = clean, p * ours + q * out
        ours = a * ours + b * clean + c * before + s * noise
        extra = {"generator": other} if takes_generator else {}
        theirs = made.step(out, timestep, theirs, **extra, return_dict=False)[0]
        assert difference(ours, theirs) <= tolerance.sampler(step + 1)


def test_a_distilled_unet_takes_the_guidance_scale_as_an_input(stock: Any, tmp_path: Path) -> None:
    """LCM checkpoints: no second row; the scale is embedded with the timestep."""
    pipeline = build_pipeline(size=64, channels=(32, 64), guidance_embedding=16)
    pipeline.save_pretrained(tmp_path / "lcm")
    engine = sdxl(tmp_path / "lcm")
    engine.warm_up()
    assert engine.models[0].schedulers[0] == "lcm"
    requests = [replace(request(model="lcm", scheduler="lcm", seed=i), guidance_scale=2.0 + 3 * i) for i in range(3)]
    pipeline.own_scheduler_config = pipeline.scheduler.config
    pipeline.set_progress_bar_config(disable=True)
    for wanted, ours in zip(requests, paint(engine, *requests), strict=True):
        assert difference(ours, reference(pipeline, wanted)) <= tolerance.latents(wanted)
