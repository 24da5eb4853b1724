"""`python -m bench.queue.device`: the generator's serving loop over a device that only passes the time of an H200.

Nothing of the loop, the line or the protocol is simulated; the arithmetic is. What the CPU does to open a request takes
its time on the CPU, what the device does takes its time beside it, so that a device that waits can be seen on a machine
that has none. The times are round figures, near what `bench.generator` aims at for SDXL at 1024×1024 (rows G2 and G6):
two UNet rows of 12.4 ms a step, 30 ms a decode.
"""

import argparse
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rpc import server
from services.generator.__main__ import service
from services.generator.engine import Sample
from services.generator.generate import Generator
from services.generator.models import FloatRange, ImageRequest, IntegerRange, ModelInfo
from services.generator.scheduling.runner import EngineRunner
from services.generator.sdxl.device_sync import DeviceSync
from services.generator.settings import GeneratorSettings
from services.generator.stock.pexels import PexelsOptions, open_stock

STEPS = 20
STEP_SECONDS = 0.025
"""A guided step of one image; a step of several takes as many times as long."""
DECODE_SECONDS = 0.025
OPEN_SECONDS = 0.012
SIDE = 1024

_MODEL = ModelInfo(
    id="simulated",
    revision="0" * 40,
    description="",
    example_prompts=(),
    schedulers=("euler",),
    max_prompt_length=2000,
    width=IntegerRange(256, 1536, 8, SIDE),
    height=IntegerRange(256, 1536, 8, SIDE),
    max_pixels=1536 * 1024,
    num_inference_steps=IntegerRange(1, 80, 1, STEPS),
    guidance_scale=FloatRange(0, 30, 0.5, 5),
)


@dataclass(eq=False)
class _Painted:
    request: ImageRequest
    steps_done: int = 0

    @property
    def batch_key(self) -> Hashable:
        return (self.request.height, self.request.width)

    @property
    def total_steps(self) -> int:
        return self.request.num_inference_steps


@dataclass(frozen=True)
class _Mark:
    at: float

    def query(self) -> bool:
        return time.monotonic() >= self.at

    def synchronize(self) -> None:
        time.sleep(max(0.0, self.at - time.monotonic()))


class Engine:
    """An engine whose device does one thing after the other, each for a known time."""

    def __init__(self, slots: int) -> None:
        """`slots` images share a step."""
        self.models: Sequence[ModelInfo] = [_MODEL]
        self.device = "cuda"
        self._slots = slots
        self._pace = DeviceSync()
        self._end = 0.0
        y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
        smooth = np.stack([np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y)], axis=-1) * 100 + 128
        noise = np.random.default_rng(0).normal(0, 1, smooth.shape)
        self._pixels = (smooth + noise).clip(0, 255).astype(np.uint8)

    def warm_up(self) -> int:
        """There is nothing to warm."""
        return self._slots

    def inspect(self, request: ImageRequest) -> Sequence[tuple[str, str]]:
        """It has no tokenizers."""
        return []

    def in_memory(self) -> frozenset[str]:
        """The one model."""
        return frozenset({_MODEL.id})

    def batch_key(self, request: ImageRequest) -> Hashable:
        """One batch key a size."""
        return (request.height, request.width)

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], admitted: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        """All may start."""
        return [True] * len(waiting)

    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        """The CPU's work."""
        time.sleep(OPEN_SECONDS)
        return [_Painted(request) for request in requests]

    def step(self, samples: Sequence[Sample]) -> None:
        """Launch a step."""
        self._pace.launched(self._launch(STEP_SECONDS * len(samples)), len(samples))
        for sample in samples:
            assert isinstance(sample, _Painted)
            sample.steps_done += 1

    def remaining_seconds(self) -> float:
        """As the real engine's."""
        return self._pace.remaining_seconds()

    def wait(self) -> None:
        """As the real engine's."""
        self._pace.wait()

    def decode(self, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8]]:
        """The same picture each time."""
        self._launch(DECODE_SECONDS * len(samples)).synchronize()
        return [self._pixels.copy() for _ in samples]

    def preview(self, sample: Sample) -> NDArray[np.uint8]:
        """A grey one."""
        return np.full((SIDE // 8, SIDE // 8, 3), 128, np.uint8)

    def recover(self) -> None:
        """There is no memory to give back."""

    def _launch(self, seconds: float) -> _Mark:
        self._end = max(self._end, time.monotonic()) + seconds
        return _Mark(self._end)


async def serve(listen: str, slots: int) -> None:
    """Serve until told to stop."""
    runner = EngineRunner(lambda: Engine(slots), queue_capacity=64)
    async with open_stock(PexelsOptions()) as stock, runner:
        await runner.ready()
        await server.serve([service(Generator(runner, stock))], GeneratorSettings(listen=listen, drain_seconds=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.queue.device", description=__doc__)
    parser.add_argument("listen")
    parser.add_argument("slots", type=int)
    arguments = parser.parse_args()
    server.run(serve(arguments.listen, arguments.slots))
