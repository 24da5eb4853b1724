"""The denoising loop: any number of samples of one size, each at its own step, with its own scheduler."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from services.generator.sdxl import samplers
from services.generator.sdxl.device_sync import to_device
from services.generator.sdxl.prompts import stack
from services.generator.sdxl.sample import SdxlSample

Tensor = torch.Tensor
UnetInputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]


class Unet(Protocol):
    """Predicts the noise: latents (rows, 4, h, w), timesteps (rows,), text, pooled text, sizes, guidance embedding."""

    def __call__(
        self, x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor, time_ids: Tensor, guidance: Tensor | None
    ) -> Tensor:
        """(rows, 4, h, w)."""


class Batch:
    """Samples of one size packed for the UNet. Valid until a sample joins, leaves or stops being guided.

    The UNet gets one row for each prompt and one more for each negative prompt, so guided and unguided samples can
    share a batch. Rows that pad the batch to `rung` are copies of the first; their output is not used.
    """

    def __init__(self, samples: Sequence[SdxlSample], rung: int, pipeline: Any) -> None:
        """`rung` is the number of UNet rows, at least `unet_rows(samples)`. The latents of the samples become views."""
        self.signature = signature(samples)
        self._dtype = samples[0].stage.positive.text.tokens.dtype
        self._device = samples[0].latents.device
        self.latents = torch.stack([sample.latents for sample in samples])
        self.clean = torch.stack([sample.clean for sample in samples])
        for i, sample in enumerate(samples):
            sample.latents, sample.clean, sample.batch = self.latents[i], self.clean[i], self
        guided = [i for i, sample in enumerate(samples) if sample.guided]
        self._any_guided = bool(guided)
        padding = rung - len(samples) - len(guided)
        self._place_rows(len(samples), guided, padding)
        self._guidance_scale = self._tensor(
            [sample.request.guidance_scale if sample.guided else 1.0 for sample in samples]
        ).view(-1, 1, 1, 1)
        given = [sample.stage.positive for sample in samples] + [samples[i].stage.negative for i in guided]
        conditions = [condition for condition in [*given, *given[:1] * padding] if condition is not None]
        self._tokens, self._pooled = stack([condition.text for condition in conditions])
        time_ids = [condition.time_ids for condition in conditions]
        self._time_ids = to_device(torch.tensor(time_ids, dtype=self._dtype), self._device)
        self._guidance = self._embed_guidance(samples, rung, pipeline)

    def step(self, samples: Sequence[SdxlSample], unet: Unet) -> None:
        """One step of every sample. Raises what the UNet raises; then no sample has changed."""
        numbers = to_device(torch.stack([_numbers(sample) for sample in samples]), self._device)
        scale, timestep, p, q, a, b, c, s = numbers.T[..., None, None, None]
        out = self._guide(unet(*self._inputs(self.latents * scale, timestep.flatten())).float())
        clean = p * self.latents + q * out
        after = a * self.latents + b * clean + c * self.clean
        for i, sample in enumerate(samples):
            noise = sample.draw_noise()
            if noise is not None:
                after[i] += s[i] * to_device(noise[0], self._device)
            elif sample.stage.table is None:
                after[i] = _own_step(sample, out[i], self.latents[i])
            if sample.kept is not None:
                after[i] = sample.kept.restore(after[i], sample.steps_done)
        self.latents.copy_(after)
        self.clean.copy_(clean)
        for sample in samples:
            sample.advance()

    def unet_inputs(self) -> UnetInputs:
        """The inputs of the next UNet call, to warm the UNet up."""
        return self._inputs(self.latents, torch.full((len(self.latents),), 500.0, device=self._device))

    def _inputs(self, scaled: Tensor, timestep: Tensor) -> UnetInputs:
        rows = scaled[self._owner].to(self._dtype)
        return rows, timestep[self._owner], self._tokens, self._pooled, self._time_ids, self._guidance

    def _place_rows(self, count: int, guided: list[int], padding: int) -> None:
        negative_row = list(range(count))
        for offset, i in enumerate(guided):
            negative_row[i] = count + offset
        self._owner = self._tensor([*range(count), *guided, *[0] * padding])
        self._negative_row = self._tensor(negative_row)

    def _guide(self, out: Tensor) -> Tensor:
        positive = out[: len(self.latents)]
        if not self._any_guided:
            return positive
        negative = out[self._negative_row]
        return negative + self._guidance_scale * (positive - negative)

    def _embed_guidance(self, samples: Sequence[SdxlSample], rung: int, pipeline: Any) -> Tensor | None:
        """For checkpoints distilled to use the guidance scale as an input instead of a second row."""
        width = pipeline.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = [sample.request.guidance_scale - 1 for sample in samples]
        embedded: Tensor = pipeline.get_guidance_scale_embedding(torch.tensor(scales), embedding_dim=width)
        return to_device(embedded.to(self._dtype), self._device)[self._owner]

    def _tensor(self, values: Sequence[float]) -> Tensor:
        return to_device(torch.tensor(values), self._device)


def signature(samples: Sequence[SdxlSample]) -> tuple[tuple[int, int, bool], ...]:
    """The samples that a batch is packed for, and their state."""
    return tuple((sample.serial, sample.stage_number, sample.guided) for sample in samples)


def unet_rows(samples: Sequence[SdxlSample]) -> int:
    """The number of UNet rows for one step."""
    return sum(2 if sample.guided else 1 for sample in samples)


def text_length(samples: Sequence[SdxlSample]) -> int:
    """The number of text tokens in each UNet row: that of the longest prompt."""
    stages = [(sample.stage, sample.guided) for sample in samples]
    conditions = [stage.positive for stage, _ in stages] + [stage.negative for stage, guided in stages if guided]
    return max(len(condition.text.tokens) for condition in conditions if condition is not None)


def _numbers(sample: SdxlSample) -> Tensor:
    stage, timestep = sample.stage, sample.stage.timesteps[sample.step]
    if stage.table is not None:
        return stage.table.rows[sample.step]
    row = torch.zeros(samplers.COLUMNS, dtype=torch.float32)
    row[samplers.SCALE] = float(stage.scheduler.scale_model_input(torch.ones(1), timestep))
    row[samplers.TIMESTEP] = float(timestep)
    # Only previews use the clean image of such a sample; the noisy one replaces it.
    row[samplers.P] = row[samplers.SCALE]
    return row


def _own_step(sample: SdxlSample, out: Tensor, latents: Tensor) -> Tensor:
    timestep, scheduler = sample.stage.timesteps[sample.step], sample.stage.scheduler
    # Copies: these schedulers keep what they are given, and the tensors of the batch change.
    stepped: Tensor = scheduler.step(out[None].clone(), timestep, latents[None].clone(), return_dict=False)[0]
    return stepped[0]
