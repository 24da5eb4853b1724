"""Teach the text encoders of a finished model to overlook what people write around a caption.

The UNet stays as it is. What it predicts for a caption alone is the example; the readers learn until it predicts the
same for the caption in the middle of prose, read in chunks as the generator reads it.
"""

from __future__ import annotations

import argparse
import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from torch import Tensor, nn

from models.house import sprites
from models.house.architecture import PRESETS, Preset
from models.house.prose import Prose, strange_words
from models.house.scenes import IMAGE_PX
from models.house.source import Source, prepare
from models.house.train_unet import draw_steps
from models.house.training import Training, adam, autocast, load_average, run
from services.generator.sdxl.prompts import embed, stack

CHECKPOINT = "prose.pt"


class _Encoder:
    """The encoder of a model."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        latents: Tensor = self._vae.encode(image).latent
        return latents


class Readers(nn.Module):
    """Both text encoders and their tokenizers, called the way the generator calls them."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = pipeline.text_encoder, pipeline.text_encoder_2
        self.tokenizer, self.tokenizer_2 = pipeline.tokenizer, pipeline.tokenizer_2

    def forward(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """States (batch, tokens of the longest text, 256), and each text's first chunk in one vector (batch, 128)."""
        return stack(embed(self, texts, self.text_encoder.device))


class ProseTraining(Training):
    """Squared distance between what the UNet predicts for prose and what it predicts for the caption in it."""

    def __init__(self, pipeline: Any, preset: Preset, source: Source, prose: Prose, seed: int) -> None:
        self.unet = pipeline.unet.requires_grad_(False)
        self.teacher = copy.deepcopy(Readers(pipeline)).requires_grad_(False)
        readers = Readers(pipeline).requires_grad_(True)
        super().__init__(readers, [adam(readers.parameters(), preset.prose_rate)], seed)
        self.source = replace(source, encoder=_Encoder(pipeline.vae))
        self.size, self.prose = preset.prose_batch, prose
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.noising: Any = DDPMScheduler.from_config({**scheduler.config, "clip_sample": False})

    def loss(self, seed: int) -> Tensor:
        """The loss on the batch of this seed."""
        clean, captions = self.source.told(seed, self.size)
        rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        texts = [self.prose.around(caption, rng) if caption else caption for caption in captions]
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        steps = draw_steps(len(noise), self.noising.config.num_train_timesteps, generator).to(clean.device)
        noisy = self.noising.add_noise(clean, noise, steps)
        with autocast(clean.device):
            with torch.no_grad():
                wanted = self._predict(noisy, steps, self.teacher(captions))
            predicted = self._predict(noisy, steps, self.network(texts))
        return (predicted.float() - wanted.float()).square().mean()

    def _predict(self, noisy: Tensor, steps: Tensor, told: tuple[Tensor, Tensor]) -> Tensor:
        states, pooled = told
        size = torch.tensor([[IMAGE_PX, IMAGE_PX, 0, 0, IMAGE_PX, IMAGE_PX]], device=noisy.device)
        conditions = {"text_embeds": pooled, "time_ids": size.repeat(len(noisy), 1)}
        predicted: Tensor = self.unet(noisy, steps, states, added_cond_kwargs=conditions).sample
        return predicted


def main() -> None:
    """Read the command line, train, and write the encoders in place of the model's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("var/house"), help="checkpoints, sprites and the log")
    parser.add_argument("--model", type=Path, default=Path("var/house/weights"), help="the folder that `export` wrote")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--steps", type=int, help="the last step; default: the preset's")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="save and stop after so long")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    preset, device = PRESETS[options.preset], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = prepare(options.work, preset.repertoire, options.seed, device)
    prose = Prose(strange_words(sprites.names(options.work)))
    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(options.model, dtype=torch.float32, add_watermarker=False)
    learning = ProseTraining(pipeline.to(device), preset, source, prose, options.seed)
    steps = preset.prose_steps if options.steps is None else options.steps
    run(learning, steps, options.work / CHECKPOINT, options.minutes * 60)
    if learning.step == steps:
        write(learning, options.work / CHECKPOINT, options.model)


def write(learning: ProseTraining, checkpoint: Path, model: Path) -> None:
    """Give the model the averaged weights of the checkpoint, in half precision as it has the others."""
    readers = learning.network
    load_average(readers, checkpoint)
    for name in ("text_encoder", "text_encoder_2"):
        getattr(readers, name).to(torch.float16).save_pretrained(model / name, safe_serialization=True)


if __name__ == "__main__":
    main()
