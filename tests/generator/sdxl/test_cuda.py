"""What holds on a GPU too: equality with the stock pipeline, cancellation, memory, no compilation after the start."""

import asyncio
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from services.generator.__main__ import HOUSE_MODEL
from services.generator.models import ImageRequest
from services.generator.sdxl import schedulers
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.fp8 import choice, numbers
from services.generator.sdxl.fp8.choice import to_fp8
from services.generator.sdxl.fp8.layers import Float8Conv2d
from services.generator.sdxl.fp8.tiles import TILES, Tile
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions
from tests.generator.diffusers_reference import Stock, difference
from tests.generator.drawings import blobs, disc, encode, encode_mask, initial
from tests.generator.harness import Client, Reply, eventually, generate_request, request, serve, start_from

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
    pytest.mark.timeout(600),  # compiling takes minutes
]

# Kernels for another batch size add in another order, and TF32, in which they multiply, has ten bits in place of 23.
TOLERANCE = 5e-3
MIB = 2**20
PICTURE, MASK = encode(blobs(64, 64)), encode_mask(disc(64, 64))


def cuda(checkpoint: Path, **options: Any) -> SdxlEngine:
    wanted = {"max_batch": 4, "dtype": "float32", "cuda_graphs": False, **options}
    return SdxlEngine(
        [ModelSource.parse("", str(checkpoint))], SdxlOptions(models_dir=checkpoint.parent, device="cuda", **wanted)
    )


def paint(engine: SdxlEngine, *requests: ImageRequest) -> list[torch.Tensor]:
    samples = engine.prepare(requests)
    while going := [sample for sample in samples if sample.steps_done < sample.total_steps]:
        engine.step(going)
    return [sample.latents.clone() for sample in samples]  # type: ignore[attr-defined]  # ours


@pytest.mark.parametrize("graphs", [False, True])
def test_a_batch_of_all_kinds_equals_the_stock_pipeline(checkpoint: Path, graphs: bool) -> None:
    engine = cuda(checkpoint, cuda_graphs=graphs)
    engine.warm_up()
    stock = diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint, use_safetensors=True).to("cuda")
    stock.set_progress_bar_config(disable=True)
    config = stock.scheduler.config
    requests = [
        request(scheduler=name, seed=i, num_inference_steps=4 + i % 3, guidance_scale=(0.0, 5.0)[i % 2])
        for i, name in enumerate(("euler", "dpmpp_2m_karras", "ddim", "euler_ancestral", "heun"))
    ]
    for wanted, ours in zip(requests, paint(engine, *requests), strict=True):
        stock.scheduler = schedulers.make_scheduler(wanted.scheduler, config)
        theirs = stock(
            wanted.prompt,
            height=64,
            width=64,
            num_inference_steps=wanted.num_inference_steps,
            guidance_scale=wanted.guidance_scale,
            generator=torch.Generator().manual_seed(wanted.seed),  # on the CPU, as ours
            output_type="latent",
        ).images[0]
        assert float((ours - theirs).abs().max() / theirs.abs().max()) <= TOLERANCE, wanted


@pytest.mark.parametrize("graphs", [False, True])
def test_pictures_and_masks_equal_the_stock_pipelines(checkpoint: Path, graphs: bool) -> None:
    engine = cuda(checkpoint, cuda_graphs=graphs)
    engine.warm_up()
    stock = Stock(checkpoint)
    stock.image.to("cuda")
    requests = [
        request(scheduler=name, seed=i, num_inference_steps=6, initial_image=initial(0.7, masked=i % 2 == 0))
        for i, name in enumerate(("euler", "dpmpp_2m_karras", "ddim", "euler_ancestral", "heun"))
    ]
    for wanted, ours in zip(requests, paint(engine, *requests), strict=True):
        assert difference(ours, stock.paint(wanted)) <= TOLERANCE, wanted


async def test_a_cancel_frees_the_slot_and_mates_end(checkpoint: Path) -> None:
    async with serve(cuda(checkpoint, cuda_graphs=True)) as client:
        going, gone = Reply(), Reply()
        mate = asyncio.create_task(client.generate(prompt="a", seed=2, num_inference_steps=80, reply=going))
        task = asyncio.create_task(client.generate(prompt="b", seed=1, num_inference_steps=80, reply=gone))
        await eventually(lambda: bool(gone.responses) or task.done())
        task.cancel()
        assert (await mate).parameters.seed == 2
        await client.until(lambda now: now.free_slot_count == now.slot_count)


async def _abort_many(client: Client, count: int) -> None:
    for number in range(count):
        picture = start_from(PICTURE, mask=MASK, strength=1) if number % 4 > 1 else None
        wanted = generate_request(prompt=f"{number % 3}", seed=number, num_inference_steps=80, initial_image=picture)
        call = client.stub.Generate(wanted, timeout=60)
        if number % 2:
            await anext(aiter(call))
        call.cancel()
    await client.until(lambda now: now.free_slot_count == now.slot_count)


async def test_two_hundred_aborts_leave_memory_where_it_was(checkpoint: Path) -> None:
    async with serve(cuda(checkpoint)) as client:
        await _abort_many(client, 20)  # until every batch size has been met
        gc.collect()
        before = torch.cuda.memory_allocated()
        await _abort_many(client, 200)
        gc.collect()
        assert torch.cuda.memory_allocated() - before <= MIB
        assert (await client.generate(prompt="a", num_inference_steps=1)).generation.batch_size == 1


def test_nothing_is_compiled_or_captured_after_the_start(checkpoint: Path) -> None:
    engine = cuda(
        checkpoint, compile="default", cuda_graphs=True, ladder="2,8"
    )  # each rung is compiled for itself, with short prompts and with long ones
    engine.warm_up()
    runner = engine.registry.get("tiny").unet
    captured = set(runner._graphs)
    assert len(captured) == 4, "warm-up captured nothing: see the log"
    with torch._dynamo.config.patch(error_on_recompile=True):
        for count in (1, 2, 3, 4):
            requests = [
                request(seed=i, guidance_scale=(5.0, 0.0)[i % 2], num_inference_steps=3 + i) for i in range(count)
            ]
            requests[-1] = replace(requests[-1], prompt=("a lighthouse at dusk ", "a fox ")[count % 2] * 5)
            assert all(torch.isfinite(latents).all() for latents in paint(engine, *requests))
    assert set(runner._graphs) == captured


class TestFp8:
    """The kernels beside the plain arithmetic of the CPU, and an engine with them."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_quantisation_is_the_reference_to_the_last_bit(self, dtype: torch.dtype) -> None:
        from services.generator.sdxl.fp8 import kernels

        rows = (torch.randn(999, 1280) * torch.logspace(-30, 30, 999)[:, None]).to(dtype)
        rows[3], rows[4, 5], rows[5, 1] = 0, float("nan"), float("inf")
        pictures = (torch.randn(5, 320, 61, 33) * torch.tensor([1e-20, 1, 1e10, 0, 1]).view(-1, 1, 1, 1)).to(dtype)
        pictures[4, 3, 0, 0] = float("nan")
        for quantize, reference, x in (
            (kernels.quantize_rows, numbers.quantize_rows, rows),
            (kernels.quantize_images, numbers.quantize_images, pictures),
        ):
            for ours, expected in zip(quantize(x.cuda()), reference(x), strict=True):
                assert torch.allclose(ours.cpu().float(), expected.float(), rtol=0, atol=0, equal_nan=True)

    @pytest.mark.parametrize("tile", TILES)
    @pytest.mark.parametrize(
        ("stride", "size", "channels", "outputs"),
        [(1, (32, 32), 320, 640), (1, (31, 17), 48, 80), (2, (33, 16), 640, 320), (2, (2, 1), 16, 16)],
    )
    def test_convolutions(self, tile: Tile, stride: int, size: tuple[int, int], channels: int, outputs: int) -> None:
        from services.generator.sdxl.fp8 import kernels

        x = torch.randn(3, channels, *size) * torch.tensor([1e-3, 1.0, 1e3]).view(-1, 1, 1, 1)
        weight, scales = numbers.quantize_rows(torch.randn(outputs, channels * 9))
        weight = weight.view(outputs, channels, 3, 3).contiguous(memory_format=torch.channels_last)
        bias = torch.randn(outputs).bfloat16()
        q, x_scales = numbers.quantize_images(x)
        expected = numbers.conv(q, x_scales, weight, scales.flatten(), bias, stride, 1)
        on_device = [tensor.cuda() for tensor in (q, x_scales, weight, scales.flatten(), bias)]
        ours = kernels.conv(*on_device, stride, 1, torch.float32, tile).cpu()
        for image, reference in zip(ours, expected, strict=True):
            # The tensor cores keep 14 bits or so of a sum.
            assert (image - reference).abs().max() <= 2e-3 * reference.abs().max()

    def test_linear_layers(self) -> None:
        layer = torch.nn.Linear(1280, 640).bfloat16()
        x = torch.randn(2, 77, 1280).bfloat16()
        with torch.no_grad():
            expected, ours = to_fp8(layer)(x), to_fp8(layer.cuda())(x.cuda()).cpu()
        assert (ours.float() - expected.float()).norm() <= 5e-3 * expected.float().norm()

    @pytest.mark.parametrize("compile_mode", ["off", "default"])
    def test_the_house_model_with_all_layers_in_fp8(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compile_mode: str
    ) -> None:
        monkeypatch.setattr(choice.Verdict, "keeps_fp8", property(lambda verdict: verdict.fp8_seconds < float("inf")))
        source = [ModelSource("house", str(HOUSE_MODEL))]
        wanted = {"dtype": "bfloat16", "max_batch": 2, "ladder": "4", "compile": compile_mode}
        plain = SdxlEngine(source, SdxlOptions(models_dir=tmp_path, device="cuda", **{**wanted, "compile": "off"}))
        engine = SdxlEngine(source, SdxlOptions(models_dir=tmp_path, device="cuda", fp8="all", **wanted))
        pictures = []
        for one in (plain, engine):
            one.warm_up()
            assert one.registry.get("house").unet.captured == 2, "warm-up captured nothing: see the log"
            paint(one, one.trial_request(3))
            samples = one.prepare([one.trial_request(seed) for seed in (3, 4)])
            while samples[0].steps_done < samples[0].total_steps:
                one.step(samples)
            pictures.append([torch.from_numpy(image).double() for image in one.decode(samples)])
        kinds = [type(module) for module in engine.registry.get("house").unet.module.modules()]
        assert kinds.count(Float8Conv2d) > 20
        assert 0 < engine.models[0].fp8_difference <= SdxlOptions().fp8_tolerance
        for exact, ours in zip(*pictures, strict=True):
            assert ((exact - ours) ** 2).mean() < 255**2 * 10**-2, "the picture stays within 20 dB"

    def test_a_start_keeps_what_is_faster(self, tmp_path: Path) -> None:
        options = SdxlOptions(models_dir=tmp_path, device="cuda", dtype="bfloat16", max_batch=2, fp8="all")
        engine = SdxlEngine([ModelSource("house", str(HOUSE_MODEL))], options)
        engine.warm_up()
        assert 0 <= engine.models[0].fp8_difference <= SdxlOptions().fp8_tolerance
