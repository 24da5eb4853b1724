"""What the tests of the generator share: engines, requests, a real client of a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc
from frontispiece.types.v1 import generation_pb2 as types
from pydantic import SecretStr

from rpc.server import running
from services.generator.__main__ import service, silence_libraries
from services.generator.engine import Engine
from services.generator.generate import Generator
from services.generator.models import ImageRequest
from services.generator.scheduling.runner import EngineRunner
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import PexelsOptions, open_stock

silence_libraries()
# The cores are shared: two threads that wait for each other are slower than one here.
torch.set_num_threads(1)


def sdxl(checkpoint: Path, *, fp8_on_cpu: bool = False, **options: Any) -> SdxlEngine:
    return SdxlEngine(
        [ModelSource.parse("", str(checkpoint))],
        cpu_options(checkpoint.parent, **{"max_batch": 4, **options}),
        fp8_on_cpu=fp8_on_cpu,
    )


def cpu_options(folder: Path, **options: Any) -> SdxlOptions:
    return SdxlOptions(models_dir=folder, **{"device": "cpu", "threads": 1, **options})


def request(**changes: Any) -> ImageRequest:
    values: dict[str, Any] = {
        "model": "tiny",
        "prompt": "a lighthouse at dusk",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "seed": 7,
        "scheduler": "euler",
    }
    return ImageRequest(**{**values, **changes})


@dataclass
class StartImage:
    """An initial image: its bytes, and what the parameters say of it."""

    data: bytes
    message: types.InitialImage


def start_from(data: bytes, **fields: Any) -> StartImage:
    return StartImage(data, types.InitialImage(key="initial.png", **fields))


def generate_request(
    *, preview_interval: int = 0, initial_image: StartImage | None = None, **parameters: Any
) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        parameters=types.GenerationParameters(
            **parameters, initial_image=initial_image.message if initial_image else None
        ),
        preview_interval=preview_interval,
        initial_image=initial_image.data if initial_image else b"",
    )


@dataclass
class Reply:
    """Everything that a Generate call sent."""

    responses: list[pb.GenerateResponse] = field(default_factory=list)

    def all(self, kind: str) -> list[Any]:
        return [getattr(response, kind) for response in self.responses if response.WhichOneof("event") == kind]

    @property
    def image(self) -> pb.ImageMetadata:
        (metadata,) = self.all("image")
        return metadata

    @property
    def generation(self) -> types.Generation:
        return self.image.generation

    @property
    def parameters(self) -> types.GenerationParameters:
        return self.image.generation.parameters

    @property
    def data(self) -> bytes:
        return b"".join(self.all("chunk"))


@dataclass
class Client:
    """A real client of a real server."""

    stub: Any
    runner: EngineRunner
    server: Any

    async def generate(self, timeout: float = 60, reply: Reply | None = None, **fields: Any) -> Reply:
        """Read to the end; a `reply` that is given can be looked into meanwhile."""
        reply = Reply() if reply is None else reply
        call = self.stub.Generate(generate_request(**fields), timeout=timeout)
        try:
            async for response in call:
                reply.responses.append(response)
        finally:
            # Who cancels this task wants the call to end. grpc.aio does not see to that when the cancellation comes
            # while the reader wakes up from its wait for the initial metadata; 20 of 300 tries met that moment.
            call.cancel()
        return reply

    async def validate(self, **parameters: Any) -> None:
        message = pb.ValidateParametersRequest(parameters=types.GenerationParameters(**parameters))
        await self.stub.ValidateParameters(message, timeout=10)

    async def capabilities(self) -> pb.GetCapabilitiesResponse:
        return await self.stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=10)

    async def until(self, condition: Any, timeout: float = 30) -> None:
        """Wait for something that the capabilities show and that stays so until the test goes on."""
        async with asyncio.timeout(timeout):
            while not condition(await self.capabilities()):
                await asyncio.sleep(0.01)


async def eventually(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for something that stays so until the test goes on."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


class serve:  # reads as a function
    """`async with serve(engine) as client`: the service on a free port."""

    def __init__(self, engine: Engine, *, pexels: PexelsOptions | None = None, **options: Any) -> None:
        self._engine = engine
        self._pexels = pexels or PexelsOptions(pexels_api_key=SecretStr(""))
        self._options = {"queue_capacity": 8, **options}

    async def __aenter__(self) -> Client:
        self._run = self._serve()
        return await anext(self._run)

    async def __aexit__(self, *_: object) -> None:
        await self._run.aclose()

    async def _serve(self) -> AsyncIterator[Client]:
        import grpc

        settings = GeneratorSettings(listen="127.0.0.1:0")
        runner = EngineRunner(lambda: self._engine, **self._options)
        async with open_stock(self._pexels) as stock, runner:
            await runner.ready()
            async with running([service(Generator(runner, stock))], settings) as server:
                async with grpc.aio.insecure_channel(server.address.replace(":0", f":{server.port}")) as channel:
                    yield Client(generator_pb2_grpc.GeneratorServiceStub(channel), runner, server)
