"""Train the UNet, for text encoders that can read already."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from models.house import architecture, muon, train_text, training
from models.house.architecture import Preset
from models.house.muon import Muon
from models.house.scenes import IMAGE_PX
from models.house.source import Batch, Source
from models.house.training import Options, Training, adam, autocast

CHECKPOINT = "unet.pt"
ADAM_RATE = 5e-4
SNR_CAP = 5.0
NOISIEST_SHARE, NOISIEST_STEPS = 0.4, 100
"""Of each batch this share is drawn from so many steps at the noisy end, where the words alone must make a picture.
Uniform steps learn that ten times slower: 28,000 pictures left an error of 0.70 there, 3,000 drawn so left 0.67."""


class Painter(nn.Module):
    """The UNet and its readers, called the way `StableDiffusionXLPipeline` calls them; only the UNet learns."""

    def __init__(self, preset: Preset, readers: tuple[Any, Any]) -> None:
        super().__init__()
        self.unet = architecture.unet(preset)
        self.text_encoder, self.text_encoder_2 = readers

    def forward(self, noisy: Tensor, steps: Tensor, token_ids: Tensor) -> Tensor:
        """The velocity predicted for noisy latents (batch, 16, 16, 16)."""
        first = self.text_encoder(token_ids, output_hidden_states=True)
        second = self.text_encoder_2(token_ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        size = torch.tensor([[IMAGE_PX, IMAGE_PX, 0, 0, IMAGE_PX, IMAGE_PX]], device=noisy.device)
        conditions = {"text_embeds": second.text_embeds, "time_ids": size.repeat(len(noisy), 1)}
        predicted: Tensor = self.unet(noisy, steps, states, added_cond_kwargs=conditions).sample
        return predicted


def loss_of(painter: nn.Module, batch: Batch, noising: Any, generator: torch.Generator) -> Tensor:
    """Velocity error; nearly clean steps count less (min-SNR), the noisiest, which choose the colours, count fully."""
    device = batch.clean.device
    noise = torch.randn(batch.clean.shape, generator=generator).to(device)
    steps = draw_steps(len(noise), noising.config.num_train_timesteps, generator).to(device)
    noisy = noising.add_noise(batch.clean, noise, steps)
    target = noising.get_velocity(batch.clean, noise, steps)
    kept = noising.alphas_cumprod.to(device)[steps]
    ratio = kept / (1 - kept)
    weight = (ratio.clamp(max=SNR_CAP) + 1) / (ratio + 1)
    error = (painter(noisy, steps, batch.token_ids).float() - target).square().mean(dim=(1, 2, 3))
    loss: Tensor = (error * weight).mean()
    return loss


def draw_steps(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Which of `most` steps to learn at, the noisiest more often."""
    anywhere = torch.randint(0, most, (count,), generator=generator)
    noisiest = torch.randint(most - NOISIEST_STEPS, most, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < NOISIEST_SHARE, noisiest, anywhere)


class UnetTraining(Training):
    """Velocity prediction on painted scenes."""

    def __init__(
        self, preset: Preset, source: Source, seed: int, device: torch.device, readers: tuple[Any, Any]
    ) -> None:
        torch.manual_seed(seed)
        painter = Painter(preset, readers).to(device)
        hidden, others = muon.split(painter)
        super().__init__(painter, [Muon(hidden, preset.unet_rate), adam(others, ADAM_RATE)], seed)
        self.source, self.size, self.device = source, preset.unet_batch, device
        self.noising: Any = DDPMScheduler.from_config({**architecture.scheduler().config, "clip_sample": False})

    def loss(self, seed: int) -> Tensor:
        """The loss on the batch of this seed."""
        batch = self.source.batch(seed, self.size)
        with autocast(self.device):
            return loss_of(self.network, batch, self.noising, torch.Generator().manual_seed(seed))


def _make(options: Options, source: Source) -> Training:
    readers = train_text.trained(options.work / train_text.CHECKPOINT, source.words)
    return UnetTraining(options.preset, source, options.seed, options.device, readers)


if __name__ == "__main__":
    training.main(__doc__, CHECKPOINT, lambda preset: preset.unet_steps, _make)
