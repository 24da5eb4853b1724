import asyncio
import gc
import hashlib
import io
from pathlib import Path

import grpc
import numpy as np
import pytest
from frontispiece.types.v1 import generation_pb2 as types
from PIL import Image

from rpc import errors
from tests.generator.harness import Client, eventually, generate_request, sdxl, serve


async def refused(client: Client, **fields: object) -> errors.RpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.generate(**fields)
    return errors.from_call(caught.value)


class TestGenerate:
    async def test_a_prompt_becomes_a_picture_and_all_is_told(self, client: Client) -> None:
        reply = await client.generate(prompt="a lighthouse at dusk", seed=3, num_inference_steps=5, guidance_scale=4)
        image = reply.image
        assert image.file.content_type == "image/png"
        assert image.file.size_bytes == len(reply.data)
        assert image.file.sha256 == hashlib.sha256(reply.data).hexdigest()
        assert (image.file.width, image.file.height) == (64, 64)
        assert image.generation.parameters == types.GenerationParameters(
            prompt="a lighthouse at dusk",
            width=64,
            height=64,
            num_inference_steps=5,
            guidance_scale=4,
            seed=3,
            scheduler="euler",
            model="tiny",
            source=types.IMAGE_SOURCE_GENERATED,
            guidance_end=1,
        )
        assert len(image.generation.model_revision) == 40
        assert image.generation.batch_size == 1
        pixels = np.asarray(Image.open(io.BytesIO(reply.data)))
        assert pixels.shape == (64, 64, 3)
        assert pixels.std() > 1
        steps = [progress.step for progress in reply.all("progress")]
        assert steps == sorted(set(steps))
        assert steps[-1] == 5

    async def test_the_same_seed_gives_the_same_bytes_and_another_does_not(self, client: Client) -> None:
        one, two, other = [
            (await client.generate(prompt="a", num_inference_steps=2, seed=seed)).data for seed in (1, 1, 2)
        ]
        assert one == two
        assert one != other

    async def test_a_seed_is_chosen_and_returned(self, client: Client) -> None:
        first = await client.generate(prompt="a", num_inference_steps=1)
        again = await client.generate(prompt="a", num_inference_steps=1, seed=first.parameters.seed)
        assert 0 <= first.parameters.seed <= 2**53 - 1
        assert first.data == again.data

    async def test_requests_at_once_share_steps(self, client: Client) -> None:
        replies = await asyncio.gather(
            *(client.generate(prompt=f"number {i}", num_inference_steps=12, seed=i) for i in range(4))
        )
        assert max(reply.generation.batch_size for reply in replies) > 1
        assert len({reply.data for reply in replies}) == 4


class TestBadRequests:
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("prompt", {"prompt": ""}),
            ("prompt", {"prompt": "x" * 2001}),
            ("prompt", {"prompt": "a\0b"}),
            ("negative_prompt", {"negative_prompt": "x" * 2001}),
            ("width", {"width": 100}),
            ("width", {"width": 56}),
            ("height", {"height": 4096}),
            ("num_inference_steps", {"num_inference_steps": 0}),
            ("num_inference_steps", {"num_inference_steps": 81}),
            ("guidance_scale", {"guidance_scale": 30.5}),
            ("guidance_scale", {"guidance_scale": -0.1}),
            ("guidance_scale", {"guidance_scale": float("nan")}),
            ("guidance_scale", {"guidance_scale": float("inf")}),
            ("seed", {"seed": 2**53}),
            ("scheduler", {"scheduler": "nobody"}),
            ("model", {"model": "../other"}),
            ("source", {"source": 9}),
            ("loras[0].name", {"loras": [types.Lora(name="../../etc/passwd")]}),
            ("guidance_end", {"guidance_end": 1.1}),
            ("guidance_end", {"guidance_end": float("nan")}),
            ("denoising_end", {"denoising_end": 0.8}),  # it has no refiner
        ],
    )
    async def test_the_wrong_field_is_named(self, client: Client, field: str, fields: dict[str, object]) -> None:
        error = await refused(client, **{"prompt": "a", **fields})
        assert isinstance(error, errors.InvalidArgument)
        assert [violation.field for violation in error.violations] == [f"parameters.{field}"]

    async def test_stock_photos_need_a_key(self, client: Client) -> None:
        error = await refused(client, prompt="a", source=types.IMAGE_SOURCE_STOCK)
        assert isinstance(error, errors.FailedPrecondition)
        assert "PEXELS_API_KEY" in error.message


class TestAborts:
    async def test_many_leave_nothing_behind(self, checkpoint: Path) -> None:
        engine = sdxl(checkpoint)
        async with serve(engine) as client:

            async def abort(number: int) -> None:
                wanted = generate_request(prompt=f"{number % 3}", seed=number, num_inference_steps=80)
                call = client.stub.Generate(wanted, timeout=60)
                if number % 2:  # the others leave while they wait, or as they are admitted
                    await anext(aiter(call))
                call.cancel()

            for number in range(0, 60, 4):
                await asyncio.gather(*(abort(number + i) for i in range(4)))
            await client.until(lambda now: now.free_slot_count == 4)
            await eventually(lambda: len(client.server.calls.running) == 0)
            gc.collect()
            assert len(engine._alive) == 0
            assert (await client.generate(prompt="a", num_inference_steps=1)).generation.batch_size == 1


async def test_capabilities_tell_the_true_ranges(client: Client) -> None:
    capabilities = await client.capabilities()
    (model,) = capabilities.models
    assert model.id == "tiny"
    assert model.schedulers[0] == "euler"
    assert (model.width.min, model.width.max, model.width.step, model.width.default) == (64, 1024, 8, 64)
    assert (capabilities.slot_count, capabilities.free_slot_count) == (4, 4)
    assert (capabilities.device, capabilities.stock_available) == ("cpu", False)
