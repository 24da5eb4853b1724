"""Our own denoising loop: any number of samples of one size, each at its own step, with its own scheduler."""

from collections.abc import Sequence
from typing import Any

import torch

from services.generator.engines import samplers
from services.generator.engines.sample import SdxlSample

Tensor = torch.Tensor


class Batch:
    """Samples of one size packed for the UNet; good until the first joins, leaves or stops being guided.

    The UNet sees one row for each prompt and one more for each negative prompt, so guided and unguided samples mix
    freely. Rows that fill up to `rung` are copies of the first; nothing reads what comes out of them.
    """

    def __init__(self, samples: Sequence[SdxlSample], rung: int, size: tuple[int, int], dtype: torch.dtype) -> None:
        """`rung` is the number of UNet rows, at least `unet_rows(samples)`; `size` is (height, width) in pixels."""
        device = samples[0].latents.device
        self.signature = signature(samples)
        self.latents = torch.stack([sample.latents for sample in samples])
        self.clean = torch.stack([sample.clean for sample in samples])
        for i, sample in enumerate(samples):
            sample.latents, sample.clean = self.latents[i], self.clean[i]
        guided = [i for i, sample in enumerate(samples) if sample.guided]
        embeddings = [sample.positive for sample in samples]
        embeddings += [samples[i].negative for i in guided]  # type: ignore[misc]  # guided ones have a negative
        padding = rung - len(embeddings)
        embeddings += embeddings[:1] * padding
        owner = [*range(len(samples)), *guided, *[0] * padding]
        negative_row = list(range(len(samples)))
        for offset, i in enumerate(guided):
            negative_row[i] = len(samples) + offset
        self._owner = torch.tensor(owner, device=device)
        self._negative_row = torch.tensor(negative_row, device=device)
        self._guidance = torch.tensor(
            [sample.request.guidance_scale if sample.guided else 1.0 for sample in samples], device=device
        ).view(-1, 1, 1, 1)
        self.any_guided = bool(guided)
        self.tokens = torch.stack([embedding.tokens for embedding in embeddings])
        self.pooled = torch.stack([embedding.pooled for embedding in embeddings])
        height, width = size
        self.time_ids = torch.tensor([[height, width, 0, 0, height, width]] * rung, dtype=dtype, device=device)
        self._dtype = dtype

    def step(self, samples: Sequence[SdxlSample], unet: Any) -> None:
        """One step of every sample. Raises what the UNet raises, and has changed nothing then."""
        numbers = torch.stack([_numbers(sample) for sample in samples]).to(self.latents.device, non_blocking=True)
        scale, timestep, p, q, a, b, c, s = numbers.T.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1)
        model_input = (self.latents * scale)[self._owner].to(self._dtype)
        out = unet(model_input, timestep.flatten()[self._owner], self.tokens, self.pooled, self.time_ids).float()
        out = self._guide(out)
        clean = p * self.latents + q * out
        after = a * self.latents + b * clean + c * self.clean
        noises = [sample.draw_noise() for sample in samples]
        for i, noise in enumerate(noises):
            if noise is not None:
                after[i] += s[i] * noise[0].to(after.device, non_blocking=True)
        for i, sample in enumerate(samples):
            if sample.table is None:
                after[i] = _own_step(sample, out[i], self.latents[i])
        self.latents.copy_(after)
        self.clean.copy_(clean)
        for sample in samples:
            sample.advance()

    def _guide(self, out: Tensor) -> Tensor:
        positive = out[: len(self.latents)]
        if not self.any_guided:
            return positive
        negative = out[self._negative_row]
        return negative + self._guidance * (positive - negative)


def signature(samples: Sequence[SdxlSample]) -> tuple[tuple[int, bool], ...]:
    """What a batch is packed for."""
    return tuple((id(sample), sample.guided) for sample in samples)


def unet_rows(samples: Sequence[SdxlSample]) -> int:
    """Rows that the UNet needs for one step."""
    return sum(2 if sample.guided else 1 for sample in samples)


def _numbers(sample: SdxlSample) -> Tensor:
    if sample.table is not None:
        return sample.table.rows[sample.steps_done]
    timestep = sample.scheduler.timesteps[sample.steps_done]
    scale = float(sample.scheduler.scale_model_input(torch.ones(1), timestep))
    row = torch.zeros(samplers.COLUMNS)
    row[samplers.SCALE], row[samplers.TIMESTEP] = scale, float(timestep)
    # p and q only serve previews here: x/sqrt(1+sigma²)-like scaling is close enough to show where it goes.
    row[samplers.P] = 1.0
    return row


def _own_step(sample: SdxlSample, out: Tensor, latents: Tensor) -> Tensor:
    timestep = sample.scheduler.timesteps[sample.steps_done]
    # Copies: these schedulers remember what they are given, and the batch's tensors change under them.
    stepped: Tensor = sample.scheduler.step(out[None].clone(), timestep, latents[None].clone(), return_dict=False)[0]
    return stepped[0]
