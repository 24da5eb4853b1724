"""What the tests of the generator share: engines, requests, a real client of a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc

from rpc.server import running
from services.generator.__main__ import service
from services.generator.engine import Engine
from services.generator.models import ImageRequest
from services.generator.quiet import silence
from services.generator.scheduling.runner import EngineRunner
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import PexelsOptions, open_stock

silence()
# The cores are shared: two threads that wait for each other are slower than one here.
torch.set_num_threads(1)


def sdxl(checkpoint: Path, **options: Any) -> SdxlEngine:
    return SdxlEngine(
        [ModelSource.parse("", str(checkpoint))],
        SdxlOptions(checkpoint.parent, device="cpu", threads=1, **{"max_batch": 4, **options}),
    )


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
        call = self.stub.Generate(pb.GenerateRequest(**fields), timeout=timeout)
        try:
            async for response in call:
                reply.responses.append(response)
        finally:
            # Who cancels this task wants the call to end. grpc.aio does not see to that when the cancellation comes
            # while the reader wakes up from its wait for the initial metadata; 20 of 300 tries met that moment.
            call.cancel()
        return reply

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
        self._pexels = pexels or PexelsOptions("", "http://127.0.0.1:9", frozenset(), 1.0, 1024)
        self._options = {"queue_capacity": 8, **options}

    async def __aenter__(self) -> Client:
        self._run = self._serve()
        return await anext(self._run)

    async def __aexit__(self, *_: object) -> None:
        await self._run.aclose()

    async def _serve(self) -> AsyncIterator[Client]:
        import grpc

        settings = GeneratorSettings(listen="127.0.0.1:0")
        async with open_stock(self._pexels) as stock, EngineRunner(self._engine, **self._options) as runner:
            async with running([service(runner, stock)], settings) as server:
                async with grpc.aio.insecure_channel(server.address.replace(":0", f":{server.port}")) as channel:
                    yield Client(generator_pb2_grpc.GeneratorServiceStub(channel), runner, server)
