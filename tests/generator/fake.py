"""An engine without a model, whose faults and pace a test decides."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.generator.engine import InvalidImage, Sample
from services.generator.models import FloatRange, ImageRequest, IntegerRange, ModelInfo

_SIZE = IntegerRange(64, 256, 8, 64)

MODEL = ModelInfo(
    id="tiny",
    revision="0" * 40,
    description="",
    example_prompts=(),
    schedulers=("euler",),
    max_prompt_length=2000,
    width=_SIZE,
    height=_SIZE,
    max_pixels=256 * 256,
    num_inference_steps=IntegerRange(1, 80, 1, 4),
    guidance_scale=FloatRange(0, 30, 0.5, 5),
    initial_images=True,
)


@dataclass(eq=False)
class FakeSample:
    request: ImageRequest
    steps_done: int = 0

    @property
    def batch_key(self) -> Hashable:
        return (self.request.height, self.request.width)

    @property
    def total_steps(self) -> int:
        return self.request.num_inference_steps


class FakeEngine:
    """Records what it does; `on_step(samples)` may sleep, block or raise.

    While `gate` is shut, the current step does not end; `stepping` is set when there is one. `may_prepare` and
    `preparing` do the same for the preparation. A test that must see a state before it ends shuts the gate: no number
    of steps takes a certain time on a busy machine.

    With `launches` it behaves as with a GPU: `step` returns at once, and the step ends while `wait` waits at the gate.
    """

    def __init__(
        self,
        *,
        slots: int = 2,
        on_step: Callable[[Sequence[Sample]], None] | None = None,
        launches: bool = False,
    ) -> None:
        self.models = [MODEL]
        self.device = "cpu"
        self.slots = slots
        self.on_step = on_step or (lambda samples: None)
        self.launches = launches
        self._in_hand = False
        self.stepped: list[list[int]] = []
        self.decoded: list[int] = []
        self.prepared: list[int] = []
        self.recovered = 0
        self.gate = threading.Event()
        self.gate.set()
        self.stepping = threading.Event()
        self.may_prepare = threading.Event()
        self.may_prepare.set()
        self.preparing = threading.Event()

    def warm_up(self) -> int:
        return self.slots

    def inspect(self, request: ImageRequest) -> Sequence[tuple[str, str]]:
        return []

    def in_memory(self) -> frozenset[str]:
        return frozenset({"tiny"})

    def batch_key(self, request: ImageRequest) -> Hashable:
        return (request.height, request.width)

    def ensure_loaded(
        self, waiting: Sequence[ImageRequest], admitted: Sequence[ImageRequest], when_ready: Callable[[], None]
    ) -> Sequence[bool]:
        return [True] * len(waiting)

    def prepare(self, requests: Sequence[ImageRequest]) -> Sequence[Sample]:
        self.preparing.set()
        self.may_prepare.wait(30)
        self.prepared += [request.seed for request in requests]
        return [FakeSample(request) for request in requests]

    def remaining_seconds(self) -> float:
        return 0.01 if self._in_hand and not self.gate.is_set() else 0.0

    def wait(self) -> None:
        if self._in_hand:
            self.gate.wait(30)
            time.sleep(0.001)
            self._in_hand = False

    def step(self, samples: Sequence[Sample]) -> None:
        assert not self._in_hand, "the step before was not waited for"
        self.stepping.set()
        if not self.launches:
            self.gate.wait(30)
        self.on_step(samples)
        time.sleep(0 if self.launches else 0.001)
        self._in_hand = self.launches
        self.stepped.append([sample.request.seed for sample in samples])
        for sample in samples:
            assert isinstance(sample, FakeSample)
            sample.steps_done += 1

    def decode(self, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8] | InvalidImage]:
        self.decoded += [sample.request.seed for sample in samples]
        return [
            np.full((sample.request.height, sample.request.width, 3), sample.request.seed % 256, np.uint8)
            for sample in samples
        ]

    def preview(self, sample: Sample) -> NDArray[np.uint8]:
        return np.zeros((8, 8, 3), np.uint8)

    def recover(self) -> None:
        self.recovered += 1
