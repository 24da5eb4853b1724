"""Train the UNet and both text encoders together."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from models.house import architecture, training
from models.house.architecture import Preset
from models.house.scenes import IMAGE_PX
from models.house.source import Batch, Source, prepare
from models.house.training import Training, autocast

CHECKPOINT = "unet.pt"
SNR_CAP = 5.0


class Painter(nn.Module):
    """The three networks that learn together, called the way `StableDiffusionXLPipeline` calls them."""

    def __init__(self, preset: Preset, words: Any) -> None:
        super().__init__()
        self.unet = architecture.unet(preset)
        self.text_encoder, self.text_encoder_2 = architecture.text_encoders(words)

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
    steps = torch.randint(0, noising.config.num_train_timesteps, (len(noise),), generator=generator).to(device)
    noisy = noising.add_noise(batch.clean, noise, steps)
    target = noising.get_velocity(batch.clean, noise, steps)
    kept = noising.alphas_cumprod.to(device)[steps]
    ratio = kept / (1 - kept)
    weight = (ratio.clamp(max=SNR_CAP) + 1) / (ratio + 1)
    error = (painter(noisy, steps, batch.token_ids).float() - target).square().mean(dim=(1, 2, 3))
    loss: Tensor = (error * weight).mean()
    return loss


class UnetTraining(Training):
    """Velocity prediction on painted scenes."""

    def __init__(self, preset: Preset, source: Source, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        super().__init__(Painter(preset, source.words).to(device), preset.unet_rate, seed)
        self.source, self.size, self.device = source, preset.unet_batch, device
        self.noising: Any = DDPMScheduler.from_config({**architecture.scheduler().config, "clip_sample": False})

    def loss(self, seed: int) -> Tensor:
        """The loss on the batch of this seed."""
        batch = self.source.batch(seed, self.size)
        with autocast(self.device):
            return loss_of(self.network, batch, self.noising, torch.Generator().manual_seed(seed))


def main() -> None:
    """Read the command line, prepare the data and train."""
    options = training.Options.read(__doc__)
    preset = options.preset
    source = prepare(options.work, preset.repertoire, options.seed, options.device)
    steps = preset.unet_steps if options.steps is None else options.steps
    run = UnetTraining(preset, source, options.seed, options.device)
    training.run(run, steps, options.work / CHECKPOINT, options.seconds)


if __name__ == "__main__":
    main()
