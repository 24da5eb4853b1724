"""One image in the making: its noise, its table of steps, and where in its batch its latents lie."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch

from services.generator.engines.prompts import Embedding
from services.generator.engines.samplers import Table
from services.generator.models import ImageRequest


@dataclass(eq=False)
class SdxlSample:
    """The state of one image; `latents` and `clean` are (4, h/8, w/8) float32, views into the batch's tensors.

    `clean` is the image as the model last saw it, which multistep solvers need and previews show. A scheduler that is
    no table (`table` is None) steps by itself. `batch` is what the sample is packed in.
    """

    request: ImageRequest
    positive: Embedding
    negative: Embedding | None
    generator: torch.Generator
    scheduler: Any
    timesteps: list[float]
    table: Table | None
    latents: torch.Tensor
    clean: torch.Tensor
    guided_steps: int
    steps_done: int = 0
    noise: torch.Tensor | None = None
    batch: Any = None
    serial: int = field(default_factory=itertools.count().__next__)

    @property
    def total_steps(self) -> int:
        """UNet evaluations in all; more than the request's steps for schedulers that look twice, like Heun."""
        return len(self.timesteps)

    @property
    def guided(self) -> bool:
        """Whether the next step looks at the negative prompt too."""
        return self.negative is not None and self.steps_done < self.guided_steps

    def draw_noise(self) -> torch.Tensor | None:
        """The noise of the next step on the CPU, the same again until `advance`; None when the step takes none."""
        if self.table is None or not self.table.draws[self.steps_done]:
            return None
        if self.noise is None:
            self.noise = torch.randn((1, *self.latents.shape), generator=self.generator)
        return self.noise

    def advance(self) -> None:
        """The step is done."""
        self.steps_done += 1
        self.noise = None
