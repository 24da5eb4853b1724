"""Devices that run out of memory, hang or break, and models that paint nothing."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from frontispiece.types.v1 import generation_pb2 as types
from safetensors.torch import load_file, save_file

from rpc import errors
from rpc.server import Service
from services.generator import __main__ as program
from services.generator.engine import CheckpointError, DeviceLost, InvalidImage, OutOfMemory, Sample
from services.generator.generate import Generator
from services.generator.scheduling.failures import run_isolated
from services.generator.scheduling.runner import EngineRunner
from services.generator.sdxl.engine import SdxlEngine
from services.generator.settings import GeneratorSettings
from tests.generator.fake import FakeEngine
from tests.generator.harness import Client, request, sdxl, serve


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

    def test_a_real_model_goes_on_piece_by_piece(self, engine: SdxlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        """With memory for one row and a small decode only, the image is the same."""
        (expected,) = engine.prepare([request()])
        (sample,) = engine.prepare([request()])
        unet = engine.registry.get("tiny").unet
        call = unet._call

        def tight(module: Any, inputs: Any) -> Any:
            if len(inputs[0]) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return call(module, inputs)

        while expected.steps_done < expected.total_steps:
            engine.step([expected])
        with monkeypatch.context() as patch:
            patch.setattr(unet, "_call", tight)
            while sample.steps_done < sample.total_steps:
                assert run_isolated(lambda some: [engine.step(some)], [sample], engine.recover) == [None]
        engine.recover()
        one, other = engine.decode([expected])[0], engine.decode([sample])[0]
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert np.abs(one.astype(int) - other).max() <= 1


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
            decoder = engine.registry.get("tiny").pipeline.vae.decoder
            decoder.conv_out.weight.fill_(value)
            assert await outcome(client, 1) == "IMAGE_INVALID"


class TestLostDevice:
    async def test_a_lasting_error_fails_all_and_asks_for_a_new_process(self) -> None:
        engine = FakeEngine(on_step=when(lambda some: True, DeviceLost("CUDA error: device-side assert triggered")))
        async with serve(engine) as client:
            assert await outcome(client, 1) == "GENERATOR_RESTARTING"
            async with asyncio.timeout(5):
                await client.runner.lost.wait()
            assert await outcome(client, 2) == "GENERATOR_STOPPING"

    async def test_a_step_that_hangs_is_noticed(self) -> None:
        release = threading.Event()
        engine = FakeEngine(on_step=lambda samples: release.wait(60))
        try:
            async with serve(engine, step_timeout_seconds=0.3) as client:
                assert await outcome(client, 1) == "GENERATOR_RESTARTING"
                assert client.runner.lost.is_set()
        finally:
            release.set()

    @pytest.mark.parametrize(
        ("raised", "expected"),
        [
            (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
            (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), OutOfMemory),
            (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
            (RuntimeError("shapes do not match"), RuntimeError),
        ],
    )
    def test_what_pytorch_says_is_understood(
        self, engine: SdxlEngine, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception]
    ) -> None:
        samples = engine.prepare([request()])

        def broken(*_: object, **__: object) -> None:
            raise raised

        with monkeypatch.context() as patch:
            patch.setattr(engine.registry.get("tiny").unet, "_unet", broken)
            with pytest.raises(expected):
                engine.step(samples)
        engine.step(samples)
        assert samples[0].steps_done == 1

    async def test_the_process_ends_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = FakeEngine(on_step=when(lambda some: True, DeviceLost("gone")))
        running: list[EngineRunner] = []

        def nothing_to_serve(generator: Generator) -> Service:
            running.append(generator.runner)
            return Service("frontispiece.generator.v1.GeneratorService", lambda server: None)

        monkeypatch.setattr(program, "make_engine", lambda settings: engine)
        monkeypatch.setattr(program, "service", nothing_to_serve)
        settings = GeneratorSettings(listen="127.0.0.1:0", lame_duck_seconds=0, drain_seconds=1)
        ended = asyncio.create_task(program.main(settings))
        async with asyncio.timeout(20):
            while not running:
                await asyncio.sleep(0.01)
            await running[0].ready()
            with pytest.raises(errors.Unavailable):
                async for _ in running[0].generate(request()):
                    pass
            assert await ended == program.EXIT_LOST


class TestUnusable:
    async def test_a_lora_that_does_not_fit_is_the_operators_to_mend(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "broken.safetensors").write_bytes(b"x")
        async with serve(sdxl(checkpoint, loras_dir=tmp_path)) as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.generate(prompt="a", loras=[types.Lora(name="broken")])
            error = errors.from_call(caught.value)
            assert isinstance(error, errors.FailedPrecondition)
            assert str(tmp_path) not in error.message
            assert await outcome(client, 1) == ""

    def test_a_checkpoint_that_paints_nothing_stops_the_start(self, checkpoint: Path, tmp_path: Path) -> None:
        folder = tmp_path / "nan"
        shutil.copytree(checkpoint, folder)
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(weights).items()}
        save_file(broken, weights, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="generates no image"):
            sdxl(folder).warm_up()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GENERATOR_DEVICE", "tpu"),
        ("GENERATOR_MODELS", "nameless"),
        ("GENERATOR_LADDER", "1,two"),
        ("GENERATOR_QUEUE_CAPACITY", "-1"),
        ("PEXELS_API_URL", "ftp://x"),
        ("GENERATOR_PREVIEW_DECODER", "/no/such/decoder"),
        ("GENERATOR_MODEL", "/no/such/folder"),
    ],
)
def test_a_wrong_setting_stops_the_process_and_is_named(variable: str, value: str, tmp_path: Path) -> None:
    environment = {**os.environ, "GENERATOR_MODELS_DIR": str(tmp_path), "GENERATOR_LISTEN": "127.0.0.1:0"}
    ended = subprocess.run(
        [sys.executable, "-m", "services.generator"],
        env={**environment, variable: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert (variable if variable != "GENERATOR_MODEL" else value) in ended.stderr
    assert "Traceback" not in ended.stderr


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
        stop = asyncio.create_task(client.runner.__aexit__())
        engine.gate.set()
        await stop
        assert set(await asyncio.gather(*tasks)) <= {"", "GENERATOR_STOPPING"}


def test_constant_pixels_are_no_picture(checkpoint: Path) -> None:
    engine = sdxl(checkpoint)
    engine.warm_up()
    decoder = engine.registry.get("tiny").decoder
    good, bad = decoder.decode(torch.stack([torch.randn(4, 8, 8), torch.full((4, 8, 8), float("nan"))]))
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, InvalidImage)
