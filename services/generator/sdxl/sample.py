"""One image in progress: its stages, its current step, and its latents."""

import itertools
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from services.generator.models import ImageRequest, Lora
from services.generator.sdxl.inpaint import KeptRegion
from services.generator.sdxl.prompts import Embedding
from services.generator.sdxl.samplers import Table


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The conditioning of the UNet: a text, and numbers (sizes, or an aesthetic score)."""

    text: Embedding
    time_ids: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """The steps that one model does: all, or those between the entry of an initial image and the hand-over to the
    refiner.

    A scheduler that is not a table (`table` is None) does its own steps. `negative` is None when no step is guided.
    """

    model: str
    loras: tuple[Lora, ...]
    positive: Conditioning
    negative: Conditioning | None
    scheduler: Any
    timesteps: tuple[Any, ...]
    table: Table | None


@dataclass(eq=False)
class SdxlSample:
    """The state of one image; `latents` and `clean` are (4, h/8, w/8) float32, views into the batch's tensors.

    `clean` is the last prediction of the finished latents, which multistep solvers need and previews show. `batch` is
    the batch that the sample is packed in. `kept` is the region that inpainting keeps.
    """

    request: ImageRequest
    stages: tuple[Stage, ...]
    generator: torch.Generator
    latents: torch.Tensor
    clean: torch.Tensor
    guided_steps: int
    kept: KeptRegion | None = None
    steps_done: int = 0
    stage_number: int = 0
    step: int = 0
    noise: torch.Tensor | None = None
    batch: Any = None
    serial: int = field(default_factory=itertools.count().__next__)

    def __post_init__(self) -> None:
        """Skip stages without steps."""
        self._enter_stage()

    @property
    def stage(self) -> Stage:
        """The current stage; after the end, the last."""
        return self.stages[self.stage_number]

    @property
    def batch_key(self) -> Hashable:
        """Same model and LoRAs, same size."""
        return (self.stage.model, self.stage.loras, self.request.height, self.request.width)

    @property
    def total_steps(self) -> int:
        """The number of UNet evaluations: more than num_inference_steps for second-order schedulers such as Heun."""
        return sum(len(stage.timesteps) for stage in self.stages)

    @property
    def guided(self) -> bool:
        """Whether the next step uses the negative prompt."""
        return self.stage.negative is not None and self.steps_done < self.guided_steps

    def draw_noise(self) -> torch.Tensor | None:
        """The noise of the next step, on the CPU, unchanged until `advance`; None when the step adds no noise."""
        if self.stage.table is None or not self.stage.table.draws[self.step]:
            return None
        if self.noise is None:
            self.noise = torch.randn((1, *self.latents.shape), generator=self.generator, dtype=torch.float32)
        return self.noise

    def advance(self) -> None:
        """Go to the next step."""
        self.steps_done += 1
        self.step += 1
        self.noise = None
        self._enter_stage()

    def _enter_stage(self) -> None:
        while self.step == len(self.stage.timesteps) and self.stage_number + 1 < len(self.stages):
            self.stage_number += 1
            self.step = 0
