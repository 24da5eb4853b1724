"""Devices that run out of memory, hang or break, and models that paint nothing."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from rpc import errors
from services.generator.engines.base import DeviceLost, InvalidImage, OutOfMemory, Sample
from tests.generator.fake import FakeEngine
from tests.generator.harness import Client, sdxl, serve


async def outcome(client: Client, seed: int) -> str:
    """The reason of the failure, or "" for an image."""
    try:
        await client.generate(prompt="a", seed=seed)
    except grpc.aio.AioRpcError as error:
        return errors.from_call(error).reason
    return ""


def when(condition: Callable[[Sequence[Sample]], bool], error: Exception) -> Callable[[Sequence[Sample]], None]:
    def fail(samples: Sequence[Sample]) -> None:
        if condition(samples):
            raise error

    return fail


async def together(client: Client, engine: FakeEngine, count: int) -> list[str]:
    engine.gate.clear()
    tasks = [asyncio.create_task(outcome(client, seed)) for seed in range(count)]
    await client.until(lambda now: now.free_slot_count == now.slot_count - count)
    engine.gate.set()
    return await asyncio.gather(*tasks)


class TestOutOfMemory:
    async def test_too_many_at_once_are_painted_in_smaller_numbers(self) -> None:
        engine = FakeEngine(slots=4, on_step=when(lambda samples: len(samples) > 2, OutOfMemory()))
        async with serve(engine) as client:
            assert await together(client, engine, 4) == ["", "", "", ""]
        assert engine.recovered > 0
        assert max(map(len, engine.stepped)) == 2

    async def test_one_that_never_fits_fails_alone_and_the_next_succeeds(self) -> None:
        engine = FakeEngine(slots=3, on_step=when(lambda some: any(s.request.seed == 1 for s in some), OutOfMemory()))
        async with serve(engine) as client:
            assert await together(client, engine, 3) == ["", "OUT_OF_MEMORY", ""]
            assert await outcome(client, 5) == ""


class TestBadModel:
    async def test_a_request_that_breaks_the_engine_fails_alone_and_says_nothing_of_the_inside(self) -> None:
        poison = when(lambda some: any(s.request.seed == 1 for s in some), RuntimeError("secret path /root"))
        engine = FakeEngine(slots=3, on_step=poison)
        async with serve(engine) as client:
            assert await together(client, engine, 3) == ["", "ENGINE_FAILED", ""]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.generate(prompt="a", seed=1)
            assert "secret" not in str(caught.value)

    async def test_no_picture_is_an_error_not_an_image(self) -> None:
        engine = FakeEngine()
        engine.decode = lambda samples: [InvalidImage("its numbers are not finite")]  # type: ignore[method-assign]
        async with serve(engine) as client:
            assert await outcome(client, 1) == "IMAGE_INVALID"
            await client.until(lambda now: now.free_slot_count == now.slot_count)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
    async def test_broken_weights_of_a_real_model(self, checkpoint: Path, value: float) -> None:
        engine = sdxl(checkpoint)
        async with serve(engine) as client:
            decoder = engine.library.get("tiny").pipeline.vae.decoder
            decoder.conv_out.weight.fill_(value)
            assert await outcome(client, 1) == "IMAGE_INVALID"


class TestLostDevice:
    async def test_a_lasting_error_fails_all_and_asks_for_a_new_process(self) -> None:
        engine = FakeEngine(on_step=when(lambda some: True, DeviceLost("CUDA error: device-side assert triggered")))
        async with serve(engine) as client:
            assert await outcome(client, 1) == "GENERATOR_RESTARTING"
            async with asyncio.timeout(5):
                await client.batcher.lost.wait()
            assert await outcome(client, 2) == "GENERATOR_STOPPING"

    async def test_a_step_that_hangs_is_noticed(self) -> None:
        release = threading.Event()
        engine = FakeEngine(on_step=lambda samples: release.wait(60))
        try:
            async with serve(engine, step_timeout_seconds=0.3) as client:
                assert await outcome(client, 1) == "GENERATOR_RESTARTING"
                assert client.batcher.lost.is_set()
        finally:
            release.set()


async def test_a_warm_up_that_fails_is_raised_at_the_start() -> None:
    class Broken(FakeEngine):
        def warm_up(self) -> int:
            raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        async with serve(Broken()):
            pass


async def test_what_is_in_work_at_the_end_is_told_to_try_again() -> None:
    engine = FakeEngine(on_step=lambda samples: None)
    async with serve(engine) as client:
        engine.gate.clear()
        tasks = [asyncio.create_task(outcome(client, seed)) for seed in range(4)]
        await client.until(lambda now: now.queue_length == 2)
        stop = asyncio.create_task(client.batcher.__aexit__())
        engine.gate.set()
        await stop
        assert set(await asyncio.gather(*tasks)) <= {"", "GENERATOR_STOPPING"}


def test_constant_pixels_are_no_picture(checkpoint: Path) -> None:
    import torch

    engine = sdxl(checkpoint)
    engine.warm_up()
    decoder = engine.library.get("tiny").decoder
    good, bad = decoder.decode(torch.stack([torch.randn(4, 8, 8), torch.full((4, 8, 8), float("nan"))]))
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, InvalidImage)
