"""One image in the making: its stages, where it stands in them, and where in its batch its latents lie."""

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
    """What the UNet is told besides the latents: a text, and the numbers that come with it (sizes, or a score)."""

    text: Embedding
    time_ids: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Stage:
    """The steps that one model does: all of them, or those from where a picture enters, up to where the refiner takes
    over, or from there on.

    A scheduler that is no table (`table` is None) steps by itself. `negative` is None when no step is guided.
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

    `clean` is the image as the model last saw it, which multistep solvers need and previews show. `batch` is what the
    sample is packed in. `stage_number` and `step` tell where it stands. `kept` is what inpainting leaves alone.
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
        """A stage may have no steps at all."""
        self._enter_stage()

    @property
    def stage(self) -> Stage:
        """The stage it is in; at the end, the last."""
        return self.stages[self.stage_number]

    @property
    def batch_key(self) -> Hashable:
        """Same model and LoRAs, same size."""
        return (self.stage.model, self.stage.loras, self.request.height, self.request.width)

    @property
    def total_steps(self) -> int:
        """UNet evaluations in all; more than the request's steps for schedulers that look twice, like Heun."""
        return sum(len(stage.timesteps) for stage in self.stages)

    @property
    def guided(self) -> bool:
        """Whether the next step looks at the negative prompt too."""
        return self.stage.negative is not None and self.steps_done < self.guided_steps

    def draw_noise(self) -> torch.Tensor | None:
        """The noise of the next step on the CPU, the same again until `advance`; None when the step takes none."""
        if self.stage.table is None or not self.stage.table.draws[self.step]:
            return None
        if self.noise is None:
            self.noise = torch.randn((1, *self.latents.shape), generator=self.generator, dtype=torch.float32)
        return self.noise

    def advance(self) -> None:
        """The step is done."""
        self.steps_done += 1
        self.step += 1
        self.noise = None
        self._enter_stage()

    def _enter_stage(self) -> None:
        while self.step == len(self.stage.timesteps) and self.stage_number + 1 < len(self.stages):
            self.stage_number += 1
            self.step = 0
