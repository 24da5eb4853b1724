"""Initial images through the service: results, refusals, waiting, and memory that is released."""

import asyncio
import gc
import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from frontispiece.types.v1 import generation_pb2 as types
from numpy.typing import NDArray
from PIL import Image

from rpc import errors
from services.generator.engine import OutOfMemory, Sample
from services.generator.images import initial_image
from services.generator.images.mask import soften
from services.generator.models import ImageRequest, InitialPixels
from services.generator.sdxl.loading.tiny import build_refiner
from tests.generator.drawings import blobs, disc, encode, encode_mask
from tests.generator.fake import FakeEngine
from tests.generator.harness import Client, Reply, StartImage, eventually, generate_request, sdxl, serve, start_from

PICTURE = encode(blobs(64, 64))
MASK = encode_mask(disc(64, 64))


def begin(data: bytes = PICTURE, **fields: Any) -> StartImage:
    return start_from(data, **fields)


def pixels(reply: Reply) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(reply.data)))


async def refused(client: Client, **fields: Any) -> errors.RpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.generate(**{"prompt": "a", **fields})
    return errors.from_call(caught.value)


class TestTold:
    async def test_a_picture_and_its_strength(self, client: Client) -> None:
        reply = await client.generate(
            prompt="a", seed=3, num_inference_steps=10, initial_image=begin(strength=0.5), preview_interval=1
        )
        assert reply.generation.initial_image_sha256 == hashlib.sha256(PICTURE).hexdigest()
        assert reply.generation.mask_sha256 == ""
        assert reply.parameters.initial_image == types.InitialImage(key="initial.png", strength=0.5)
        assert (reply.parameters.num_inference_steps, reply.parameters.seed) == (10, 3)
        assert {progress.total_steps for progress in reply.all("progress")} == {5}
        assert reply.all("progress")[-1].step == 5
        again = await client.generate(prompt="a", seed=3, num_inference_steps=10, initial_image=begin(strength=0.5))
        assert again.data == reply.data

    async def test_the_defaults(self, client: Client) -> None:
        plain = await client.generate(prompt="a", num_inference_steps=10, initial_image=begin())
        masked = await client.generate(prompt="a", num_inference_steps=10, initial_image=begin(mask=MASK))
        assert plain.parameters.initial_image.strength == 0.6
        assert plain.all("progress")[-1].total_steps == 6
        assert masked.parameters.initial_image.strength == 1.0
        assert masked.generation.mask_sha256 == hashlib.sha256(MASK).hexdigest()
        assert masked.all("progress")[-1].total_steps == 10
        assert (plain.parameters.initial_image.mask_feather, masked.parameters.initial_image.mask_feather) == (0, 8)

    async def test_without_one_nothing_is_told_of_one(self, client: Client) -> None:
        reply = await client.generate(prompt="a", num_inference_steps=1)
        assert not reply.parameters.HasField("initial_image")

    async def test_the_model_says_that_it_can(self, client: Client) -> None:
        assert (await client.capabilities()).models[0].initial_images

    async def test_what_the_mask_keeps_is_kept(self, client: Client) -> None:
        reply = await client.generate(prompt="a", initial_image=begin(mask=MASK), num_inference_steps=3)
        painted = disc(64, 64)
        assert np.array_equal(pixels(reply)[~painted], blobs(64, 64)[~painted])
        assert not np.array_equal(pixels(reply)[painted], blobs(64, 64)[painted])

    @pytest.mark.parametrize("feather", [0, 1, 64])
    async def test_a_border_of_another_width(self, client: Client, feather: int) -> None:
        """Whatever its width, what the mask keeps is kept, and the middle of what it marks is painted altogether."""
        wanted = {"prompt": "a", "seed": 1, "num_inference_steps": 3}
        reply = await client.generate(**wanted, initial_image=begin(mask=MASK, mask_feather=feather))
        assert reply.parameters.initial_image.mask_feather == feather
        opacity = soften(disc(64, 64), feather)
        hard = pixels(await client.generate(**wanted, initial_image=begin(mask=MASK, mask_feather=0)))
        assert np.array_equal(pixels(reply)[opacity == 0], blobs(64, 64)[opacity == 0])
        assert np.array_equal(pixels(reply)[opacity == 1], hard[opacity == 1])
        assert np.array_equal(pixels(reply), hard) == (feather == 0)

    async def test_the_nearer_to_nothing_the_strength_the_nearer_to_the_picture(self, client: Client) -> None:
        """The tiny model paints noise, but its decoder of what its encoder saw is the same each time."""
        far = [
            pixels(await client.generate(prompt="a", seed=1, num_inference_steps=20, initial_image=begin(strength=s)))
            for s in (0.05, 0.5, 1.0)
        ]
        near = far[0].astype(int)
        assert np.abs(far[1] - near).mean() < np.abs(far[2] - near).mean()


class TestRefused:
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("initial_image", {"initial_image": begin(b"", strength=0.5)}),
            ("initial_image", {"initial_image": begin(b"x")}),
            ("initial_image", {"initial_image": begin(PICTURE[:-40])}),
            ("initial_image", {"initial_image": begin(PICTURE + bytes(2**24))}),
            ("parameters.initial_image.mask", {"initial_image": begin(mask=b"x")}),
            ("parameters.initial_image.mask", {"initial_image": begin(mask=MASK + bytes(2**18))}),
            ("parameters.initial_image.mask", {"initial_image": begin(mask=encode_mask(np.zeros((9, 9), np.bool_)))}),
            ("parameters.initial_image.strength", {"initial_image": begin(strength=0)}),
            ("parameters.initial_image.strength", {"initial_image": begin(strength=-0.1)}),
            ("parameters.initial_image.strength", {"initial_image": begin(strength=1.01)}),
            ("parameters.initial_image.strength", {"initial_image": begin(strength=float("nan"))}),
            ("parameters.initial_image.strength", {"initial_image": begin(strength=float("inf"))}),
            ("parameters.initial_image.mask_feather", {"initial_image": begin(mask_feather=8)}),
            ("parameters.initial_image.mask_feather", {"initial_image": begin(mask_feather=0)}),
            ("parameters.initial_image.mask_feather", {"initial_image": begin(mask=MASK, mask_feather=65)}),
            ("parameters.initial_image.mask_feather", {"initial_image": begin(mask=MASK, mask_feather=2**32 - 1)}),
            ("parameters.initial_image", {"initial_image": begin(), "source": types.IMAGE_SOURCE_STOCK}),
        ],
    )
    async def test_the_wrong_field_is_named(self, client: Client, field: str, fields: dict[str, Any]) -> None:
        error = await refused(client, **fields)
        assert isinstance(error, errors.InvalidArgument)
        assert [violation.field for violation in error.violations] == [field]

    async def test_all_wrong_fields_at_once(self, client: Client) -> None:
        picture = begin(PICTURE + bytes(2**24), strength=2, mask=MASK + bytes(2**18), mask_feather=65)
        error = await refused(client, width=3, initial_image=picture)
        names = ["width", "initial_image.strength", "initial_image.mask", "initial_image.mask_feather"]
        fields = [*(f"parameters.{name}" for name in names), "initial_image"]
        assert [violation.field for violation in error.violations] == fields

    async def test_the_largest_ones_are_taken(self, client: Client) -> None:
        """PNG readers ignore what follows the end."""
        picture, mask = (data + bytes(limit - len(data)) for data, limit in ((PICTURE, 2**24), (MASK, 2**18)))
        reply = await client.generate(prompt="a", num_inference_steps=1, initial_image=begin(picture, mask=mask))
        assert reply.generation.initial_image_sha256 == hashlib.sha256(picture).hexdigest()

    async def test_a_message_beyond_all_limits_is_refused_with_both_sizes(self, client: Client) -> None:
        error = await refused(client, initial_image=begin(bytes(25 * 2**20)))
        assert isinstance(error, errors.ResourceExhausted)
        assert "larger than max" in error.message
        assert str(24 * 2**20) in error.message
        assert error.reason != "QUEUE_FULL"

    async def test_when_the_line_is_full_no_picture_is_read(self) -> None:
        engine = FakeEngine(slots=1)
        async with serve(engine, queue_capacity=1) as client:
            engine.gate.clear()
            tasks = [asyncio.create_task(client.generate(prompt="a", seed=seed)) for seed in range(2)]
            await client.until(lambda now: now.queue_length == 1)
            error = await refused(client, initial_image=begin(b"not even looked at"))
            assert error.reason == "QUEUE_FULL"
            engine.gate.set()
            await asyncio.gather(*tasks)

    async def test_more_bytes_of_pictures_than_memory_is_set_aside_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first always fits; a second waits its turn outside; one without a picture passes."""
        monkeypatch.setattr(initial_image, "MAX_HELD_BYTES", 2 * len(PICTURE) - 1)
        engine = FakeEngine(slots=1)
        async with serve(engine) as client:
            engine.gate.clear()
            first = asyncio.create_task(client.generate(prompt="a", initial_image=begin()))
            await client.until(lambda now: now.free_slot_count == 0)
            error = await refused(client, initial_image=begin())
            assert isinstance(error, errors.ResourceExhausted)
            assert (error.reason, error.retry_after_seconds) == ("QUEUE_FULL", 1.0)
            plain = asyncio.create_task(client.generate(prompt="a"))
            await client.until(lambda now: now.queue_length == 1)
            engine.gate.set()
            await asyncio.gather(first, plain)
            assert (await client.generate(prompt="a", initial_image=begin())).parameters.HasField("initial_image")

    async def test_by_a_model_that_cannot(self) -> None:
        engine = FakeEngine()
        engine.models = [replace(engine.models[0], initial_images=False)]
        async with serve(engine) as client:
            assert not (await client.capabilities()).models[0].initial_images
            error = await refused(client, initial_image=begin())
            (violation,) = error.violations
            assert violation == errors.FieldViolation(
                "parameters.initial_image", "must not be set: tiny cannot start from an image"
            )

    async def test_so_little_strength_that_the_refiner_would_do_all(self, checkpoint: Path, tmp_path: Path) -> None:
        build_refiner(size=64, channels=(32, 64)).save_pretrained(tmp_path / "refiner")
        async with serve(sdxl(checkpoint, refiner=str(tmp_path / "refiner"))) as client:
            error = await refused(client, denoising_end=0.7, initial_image=begin(strength=0.3))
            assert [violation.field for violation in error.violations] == ["parameters.denoising_end"]
            reply = await client.generate(
                prompt="a", denoising_end=0.7, num_inference_steps=10, initial_image=begin(strength=0.6, mask=MASK)
            )
            assert (reply.generation.refiner, reply.all("progress")[-1].total_steps) == ("refiner", 6)
            assert np.array_equal(pixels(reply)[~disc(64, 64)], blobs(64, 64)[~disc(64, 64)])


class Diary(FakeEngine):
    """Notes what was opened and stepped, in turn: how many began from a picture and how many did not, or "step"."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pages: list[Any] = []

    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        begun = sum(request.initial_image is not None for request in requests)
        self.pages.append((begun, len(requests) - begun))
        return super().prepare(requests)

    def step(self, samples: Sequence[Sample]) -> None:
        super().step(samples)
        self.pages.append("step")


class TestMates:
    async def test_between_two_steps_one_picture_is_encoded(self) -> None:
        engine = Diary(slots=6)
        async with serve(engine, queue_capacity=0) as client:
            engine.gate.clear()
            tasks = [asyncio.create_task(client.generate(prompt="a", seed=0, num_inference_steps=50))]
            await eventually(engine.stepping.is_set)
            for seed in range(1, 6):
                picture = {"initial_image": begin()} if seed % 2 else {}
                tasks.append(asyncio.create_task(client.generate(prompt="a", seed=seed, **picture)))
                await client.until(lambda now, count=seed + 1: now.free_slot_count == 6 - count)
            engine.gate.set()
            replies = await asyncio.gather(*tasks)
        assert engine.pages[:8] == [(0, 1), "step", (0, 2), (1, 0), "step", (1, 0), "step", (1, 0)]
        assert replies[0].generation.batch_size == 6

    async def test_who_leaves_before_its_picture_is_encoded_costs_nothing(self) -> None:
        engine = Diary(slots=4)
        async with serve(engine, queue_capacity=0) as client:
            engine.gate.clear()
            mate = asyncio.create_task(client.generate(prompt="a", seed=0, num_inference_steps=80))
            await eventually(engine.stepping.is_set)
            others = []
            for seed in range(1, 4):
                others.append(asyncio.create_task(client.generate(prompt="a", seed=seed, initial_image=begin())))
                await client.until(lambda now, count=seed + 1: now.free_slot_count == 4 - count)
            for task in others[1:]:
                task.cancel()
            await eventually(lambda: len(client.server.calls.running) == 2)
            engine.gate.set()
            await asyncio.gather(mate, others[0])
            assert engine.prepared == [0, 1]
            await client.until(lambda now: now.free_slot_count == 4)

    async def test_one_that_does_not_fit_fails_alone(self) -> None:
        class Tight(FakeEngine):
            def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
                if any(request.initial_image for request in requests):
                    raise OutOfMemory
                return super().prepare(requests)

        engine = Tight(slots=3)
        async with serve(engine) as client:
            engine.gate.clear()
            mate = asyncio.create_task(client.generate(prompt="a", seed=0))
            await eventually(engine.stepping.is_set)
            other = asyncio.create_task(client.generate(prompt="a", seed=1, initial_image=begin()))
            await client.until(lambda now: now.free_slot_count == 1)
            engine.gate.set()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await other
            assert errors.from_call(caught.value).reason == "OUT_OF_MEMORY"
            assert (await mate).parameters.seed == 0

    async def test_a_deadline_ends_it(self, client: Client) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.generate(
                prompt="a", num_inference_steps=80, width=512, height=512, initial_image=begin(mask=MASK), timeout=0.5
            )
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await client.until(lambda now: now.free_slot_count == 4)


class TestAborts:
    async def test_two_hundred_leave_nothing_behind(self, checkpoint: Path) -> None:
        engine = sdxl(checkpoint)
        async with serve(engine) as client:

            async def abort(number: int) -> None:
                mask = MASK if number % 3 else b""
                picture = begin(mask=mask, strength=1.0)
                wanted = generate_request(prompt="a", seed=number, num_inference_steps=80, initial_image=picture)
                call = client.stub.Generate(wanted, timeout=60)
                if number % 2:  # the others leave while the picture is read, while they wait, or as they are admitted
                    await anext(aiter(call))
                call.cancel()

            for number in range(0, 200, 4):
                await asyncio.gather(*(abort(number + i) for i in range(4)))
            await client.until(lambda now: now.free_slot_count == 4)
            await eventually(lambda: len(client.server.calls.running) == 0)
            gc.collect()
            assert len(engine._alive) == 0
            assert not [some for some in gc.get_objects() if type(some) is InitialPixels]
            assert (await client.generate(prompt="a", num_inference_steps=1)).generation.batch_size == 1
