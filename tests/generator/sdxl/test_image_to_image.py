"""Image to image and inpainting in our loop equal the diffusers pipelines, whichever requests share the steps."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from services.generator.__main__ import HOUSE_MODEL
from services.generator.models import ImageRequest
from services.generator.scheduling.failures import run_isolated
from services.generator.sdxl import schedulers
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.tiny import build_pipeline
from tests.generator import tolerance
from tests.generator.diffusers_reference import Stock, difference, paint, run
from tests.generator.drawings import disc, initial
from tests.generator.harness import request, sdxl


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Stock:
    return Stock(checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> SdxlEngine:
    made = sdxl(checkpoint)
    made.warm_up()
    return made


def sorts() -> list[ImageRequest]:
    """Requests of every kind that can meet in a batch; only the first begins from noise alone."""
    return [
        request(scheduler="euler", seed=1, num_inference_steps=4),
        request(scheduler="dpmpp_2m", seed=2, num_inference_steps=8, initial_image=initial(0.6)),
        request(scheduler="dpmpp_2m_sde", seed=3, num_inference_steps=5, initial_image=initial(1.0, masked=True)),
        request(scheduler="euler_ancestral", seed=4, num_inference_steps=9, initial_image=initial(0.5, masked=True)),
        request(scheduler="heun", seed=5, num_inference_steps=5, guidance_scale=0.0, initial_image=initial(0.7)),
        request(scheduler="unipc", seed=6, num_inference_steps=8, initial_image=initial(0.8, masked=True, seed=3)),
    ]


class TestEqual:
    @pytest.mark.parametrize("masked", [False, True], ids=["image", "mask"])
    @pytest.mark.parametrize(("steps", "strength"), [(4, 0.25), (5, 0.5), (16, 0.3), (9, 0.99), (5, 1.0)])
    @pytest.mark.parametrize("scheduler", schedulers.NAMES)
    def test_every_scheduler_alone(
        self, engine: SdxlEngine, stock: Stock, scheduler: str, steps: int, strength: float, masked: bool
    ) -> None:
        picture = initial(strength, masked=masked)
        wanted = request(scheduler=scheduler, num_inference_steps=steps, initial_image=picture)
        (ours,) = paint(engine, wanted)
        assert difference(ours, stock.paint(wanted)) <= tolerance.latents(wanted)

    @pytest.mark.parametrize("masked", [False, True], ids=["image", "mask"])
    @pytest.mark.parametrize("guidance", [0.0, 1.5, 7.5])
    @pytest.mark.parametrize("size", [(64, 96), (104, 72)])
    def test_every_size_and_guidance(
        self, engine: SdxlEngine, stock: Stock, size: tuple[int, int], guidance: float, masked: bool
    ) -> None:
        height, width = size
        picture = initial(0.6, masked=masked, width=width, height=height)
        size_and_picture = {"height": height, "width": width, "initial_image": picture}
        wanted = request(**size_and_picture, guidance_scale=guidance, negative_prompt="rain", num_inference_steps=6)
        (ours,) = paint(engine, wanted)
        assert difference(ours, stock.paint(wanted)) <= tolerance.latents(wanted)

    def test_mates_of_all_kinds(self, engine: SdxlEngine, stock: Stock) -> None:
        kinds = [
            request(
                scheduler=name, seed=i, num_inference_steps=5 + i % 3, initial_image=initial(0.7, masked=i % 2 == 0)
            )
            for i, name in enumerate(schedulers.NAMES)
        ]
        for wanted, ours in zip(kinds, paint(engine, *kinds), strict=True):
            assert difference(ours, stock.paint(wanted)) <= tolerance.latents(wanted), wanted

    @pytest.mark.parametrize("step", range(7))
    def test_joining_at_every_step(self, engine: SdxlEngine, stock: Stock, step: int) -> None:
        _, *others = sorts()
        first = request(num_inference_steps=9, seed=7, initial_image=initial(0.9, masked=True, seed=1))
        going: list[Any] = list(engine.prepare([first]))
        for _ in range(step):
            engine.step(going)
        going += engine.prepare(others)
        run(engine, going)
        for sample in going:
            assert difference(sample.latents, stock.paint(sample.request)) <= tolerance.latents(sample.request)

    @pytest.mark.parametrize("leaver", range(6))
    def test_leaving_is_not_noticed(self, engine: SdxlEngine, leaver: int) -> None:
        whole, left = list(engine.prepare(sorts())), list(engine.prepare(sorts()))
        for number in range(3):
            engine.step(whole)
            if number == 1:
                del left[leaver]
            engine.step(left)
        del whole[leaver]
        for one, other in zip(whole, left, strict=True):
            assert difference(one.latents, other.latents) <= tolerance.latents(one.request)

    def test_on_one_rung_mates_leave_no_trace(self, checkpoint: Path) -> None:
        padded = sdxl(checkpoint, ladder="12")
        padded.warm_up()
        alone = [paint(padded, wanted)[0] for wanted in sorts()]
        for one, other in zip(alone, paint(padded, *sorts()), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("end", [0.0, 0.5, 0.99])
    def test_guidance_ends_after_a_share_of_the_steps_that_are_done(
        self, engine: SdxlEngine, stock: Stock, end: float
    ) -> None:
        wanted = request(num_inference_steps=10, guidance_end=end, initial_image=initial(0.5), negative_prompt="rain")
        (ours,) = paint(engine, wanted)
        guided_steps = math.ceil(end * 5)

        def stop_guidance(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step == guided_steps - 1:
                pipeline._guidance_scale = 0.0
                return {name: tensor.chunk(2)[1] for name, tensor in tensors.items()}
            return tensors

        theirs = stock.paint(
            wanted if guided_steps else replace(wanted, guidance_scale=0.0),
            callback_on_step_end=stop_guidance,
            callback_on_step_end_tensor_inputs=["prompt_embeds", "add_text_embeds", "add_time_ids"],
        )
        assert difference(ours, theirs) <= tolerance.latents(wanted)

    def test_a_distilled_unet(self, tmp_path: Path) -> None:
        folder = tmp_path / "lcm"
        build_pipeline(size=64, channels=(32, 64), guidance_embedding=16).save_pretrained(folder)
        engine = sdxl(folder)
        engine.warm_up()
        for masked in (False, True):
            picture = initial(0.5, masked=masked)
            wanted = request(model="lcm", scheduler="lcm", guidance_scale=3.0, initial_image=picture)
            assert difference(paint(engine, wanted)[0], Stock(folder).paint(wanted)) <= tolerance.latents(wanted)

    def test_the_house_model(self) -> None:
        """Its VAE has cells of 16 pixels and no posterior; the stock pipeline looks for its latents by another name."""
        engine = sdxl(HOUSE_MODEL)
        engine.warm_up()
        stock = Stock(HOUSE_MODEL)  # in float32: its weights are kept in halves
        encode = stock.image.vae.encode
        stock.image.vae.encode = lambda picture: SimpleNamespace(latents=encode(picture).latent)
        for scheduler in ("dpmpp_2m", "euler"):
            wanted = request(
                **{"model": engine.models[0].id, "prompt": "a fox", "scheduler": scheduler, "guidance_scale": 1.5},
                **{"width": 256, "height": 256, "initial_image": initial(0.5, width=256, height=256)},
            )
            assert difference(paint(engine, wanted)[0], stock.paint(wanted)) <= tolerance.latents(wanted)


def test_at_least_one_step_is_done(engine: SdxlEngine, stock: Stock) -> None:
    wanted = request(num_inference_steps=4, initial_image=initial(0.01))
    (sample,) = engine.prepare([wanted])
    assert sample.total_steps == 1
    (ours,) = paint(engine, wanted)
    assert difference(ours, stock.paint(replace(wanted, initial_image=initial(0.25)))) <= tolerance.latents(wanted)


def test_pixels_are_the_stock_pipelines(engine: SdxlEngine, stock: Stock) -> None:
    wanted = request(initial_image=initial(0.5))
    samples: list[Any] = list(engine.prepare([wanted]))
    run(engine, samples)
    (ours,) = engine.decode(samples)
    theirs = np.asarray(stock.paint(wanted, output_type="pil"))
    assert np.abs(theirs.astype(int) - ours).max() <= 1


class TestInpainting:
    def test_every_pixel_outside_the_mask_is_the_pictures(self, engine: SdxlEngine, stock: Stock) -> None:
        wanted = request(initial_image=initial(1.0, masked=True))
        assert wanted.initial_image is not None
        samples: list[Any] = list(engine.prepare([wanted, request(seed=2)]))
        run(engine, samples)
        ours, mate = engine.decode(samples)
        painted = disc(64, 64)
        theirs = np.asarray(stock.paint(wanted, output_type="pil"))
        assert np.array_equal(ours[~painted], wanted.initial_image.pixels[~painted])
        assert np.abs(theirs.astype(int) - ours)[painted].max() <= 1
        assert not np.array_equal(ours[painted], wanted.initial_image.pixels[painted])
        (alone,) = engine.prepare([request(seed=2)])
        run(engine, [alone])
        assert np.array_equal(mate, engine.decode([alone])[0])

    @pytest.mark.parametrize("feather", [1, 8, 64])
    def test_the_border_goes_over_from_the_picture_to_what_is_painted(self, engine: SdxlEngine, feather: int) -> None:
        """Same latents, whatever the border: it is made of pixels alone, each rounded once."""
        hard, soft = initial(1.0, masked=True), initial(1.0, masked=True, feather=feather)
        samples: list[Any] = list(engine.prepare([request(initial_image=hard), request(initial_image=soft)]))
        run(engine, samples)
        assert torch.equal(samples[0].latents, samples[1].latents)
        painting, mixed = engine.decode(samples)
        assert soft.opacity is not None
        opacity = soft.opacity[..., None]
        assert np.abs(
            soft.pixels + opacity * (painting.astype(float) - soft.pixels) - mixed
        ).max() <= 0.5 + 255 * tolerance.elementwise(4)
        assert np.array_equal(mixed[soft.opacity == 0], soft.pixels[soft.opacity == 0])
        assert np.array_equal(mixed[soft.opacity == 1], painting[soft.opacity == 1])
        assert ((soft.opacity > 0) & (soft.opacity < 1)).any()

    def test_a_cell_is_painted_if_one_of_its_pixels_is(self, engine: SdxlEngine) -> None:
        opacity = np.zeros((64, 64), np.float32)
        opacity[23, 47] = 0.1
        (sample,) = engine.prepare([request(initial_image=replace(initial(1.0), opacity=opacity))])
        assert sample.kept.painted.nonzero().tolist() == [[2, 5]]  # type: ignore[attr-defined]


LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def test_with_a_lora(checkpoint: Path, stock: Stock, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from services.generator.models import Lora

    torch.manual_seed(1)
    down, up = torch.randn(2, 64), torch.randn(64, 2)
    factors = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    save_file(factors, tmp_path / "style.safetensors")
    engine = sdxl(checkpoint, loras_dir=tmp_path)
    engine.warm_up()
    by_hand = Stock(checkpoint)
    with torch.no_grad():
        by_hand.image.unet.get_submodule(LAYER).weight += 0.5 * up @ down
    wanted = request(initial_image=initial(0.7, masked=True), loras=(Lora("style", 0.5),))
    (ours,) = paint(engine, wanted)
    assert difference(ours, by_hand.paint(wanted)) <= tolerance.latents(wanted)
    assert difference(ours, stock.paint(wanted)) > 10 * tolerance.latents(wanted)


def test_short_of_memory_a_picture_is_encoded_in_tiles(engine: SdxlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once do not fit, one fits in tiles only; then the next is as before."""
    model = engine.registry.get("tiny")
    encode, tried = model.encoder._vae.encode, []

    def tight(picture: Any) -> Any:
        tried.append(model.encoder._vae.use_tiling)
        if not tried[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(picture)

    wanted = [request(seed=seed, initial_image=initial(0.5)) for seed in range(2)]
    expected = paint(engine, *wanted)
    with monkeypatch.context() as patch:
        patch.setattr(model.encoder._vae, "encode", tight)
        samples: list[Any] = run_isolated(engine.prepare, wanted, engine.recover)
    assert tried == [False, True, False, True]
    run(engine, samples)
    for sample, one in zip(samples, expected, strict=True):
        assert torch.equal(sample.latents, one)
    engine.prepare(wanted)
    assert not model.encoder._vae.use_tiling
