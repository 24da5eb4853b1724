"""What is measured: an engine, the same service that users get, and the stock pipeline beside them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc

from rpc.server import running
from rpc.settings import ServerSettings
from services.generator.__main__ import service
from services.generator.generate import Generator
from services.generator.models import ImageRequest
from services.generator.scheduling.runner import EngineRunner
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions
from services.generator.sdxl.sample import SdxlSample
from services.generator.stock.pexels import PexelsOptions, open_stock

PROMPTS = (
    "a lighthouse at dusk",
    "two apples on a blue table",
    "an old tram in the rain",
    "a fox under a crescent moon",
    "a harbour at noon, oil on canvas",
    "a paper boat on a puddle",
    "mountains behind a wheat field",
    "a red umbrella in the snow",
)


def make_engine(folder: Path, device: str, **options: Any) -> SdxlEngine:
    """A warm engine for the checkpoint in `folder`."""
    special = {name: options.pop(name) for name in ("fp8_on_cpu", "warm_chunks") if name in options}
    # A copy is not validated: a variant may have values that no operator may set.
    settings = SdxlOptions(models_dir=folder.parent).model_copy(update={"device": device, **options})
    engine = SdxlEngine([ModelSource("bench", str(folder))], settings, **special)
    engine.warm_up()
    return engine


def requests(engine: SdxlEngine, count: int, **changes: Any) -> list[ImageRequest]:
    """Requests with different prompts and seeds."""
    return [
        replace(engine.trial_request(seed), prompt=PROMPTS[seed % len(PROMPTS)], **changes) for seed in range(count)
    ]


def paint(engine: SdxlEngine, wanted: Sequence[ImageRequest], decode_chunk: int = 4) -> list[Any]:
    """Paint requests as one batch, without the service: pixels, or an InvalidImage each."""
    samples = engine.prepare(wanted)
    while samples[0].steps_done < samples[0].total_steps:
        engine.step(samples)
    images: list[Any] = []
    for start in range(0, len(samples), decode_chunk):
        images += engine.decode(samples[start : start + decode_chunk])
    return images


def open_samples(engine: SdxlEngine, wanted: Sequence[ImageRequest]) -> list[SdxlSample]:
    """Requests made ready to step."""
    return [sample for sample in engine.prepare(wanted) if isinstance(sample, SdxlSample)]


class Client:
    """Calls the service over a real connection."""

    def __init__(self, stub: Any, runner: EngineRunner) -> None:
        """`runner` is only asked for its load."""
        self.stub = stub
        self.runner = runner

    def call(self, wanted: ImageRequest, preview_interval: int = 0) -> Any:
        """A Generate call in progress."""
        message = pb.GenerateRequest(parameters=wanted.parameters(), preview_interval=preview_interval)
        return self.stub.Generate(message, timeout=600)

    async def generate(self, wanted: ImageRequest, preview_interval: int = 0) -> pb.ImageMetadata:
        """One image; its bytes are read and dropped."""
        metadata = pb.ImageMetadata()
        async for response in self.call(wanted, preview_interval):
            if response.WhichOneof("event") == "image":
                metadata = response.image
        return metadata

    async def closed_loop(self, clients: int, wanted: Sequence[ImageRequest], preview_interval: int = 0) -> None:
        """`clients` callers, each sending the next request as soon as it has its image."""
        left = iter(wanted)

        async def caller() -> None:
            for request in left:
                await self.generate(request, preview_interval)

        await asyncio.gather(*(caller() for _ in range(clients)))

    async def until_idle(self) -> None:
        """Wait until nothing is in work."""
        while self.runner.load().free_slot_count < self.runner.load().slot_count:  # nothing tells
            await asyncio.sleep(0.0005)


@asynccontextmanager
async def serving(engine: SdxlEngine) -> AsyncIterator[Client]:
    """The service on a free port, warm."""
    settings = ServerSettings(listen="127.0.0.1:0")
    runner = EngineRunner(lambda: engine, queue_capacity=1000, decode_chunk=4)
    async with open_stock(PexelsOptions()) as stock, runner:
        await runner.ready()
        async with running([service(Generator(runner, stock))], settings) as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Client(generator_pb2_grpc.GeneratorServiceStub(channel), runner)


def stock_pipeline(folder: Path, device: str, dtype: Any) -> Any:
    """diffusers as it is, without anything of ours."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, dtype=dtype, add_watermarker=False).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_stock(pipeline: Any, wanted: Sequence[ImageRequest], output_type: str = "pil") -> Any:
    """The stock pipeline for requests that differ in prompt and seed only."""
    import torch

    first = wanted[0]
    return pipeline(
        [request.prompt for request in wanted],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in wanted],
        output_type=output_type,
    ).images
