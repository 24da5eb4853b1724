"""Train the VAE's decoder on painted scenes; the encoder is written in closed form and stays as it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.house import architecture, latents, scenes, training
from models.house.architecture import Preset
from models.house.latents import CELL_PX
from models.house.source import Source
from models.house.training import Options, Training, adam, autocast, load_average

CHECKPOINT = "vae.pt"
CROP_PX = 96
LATENT_NOISE = 0.08
_WHOLE_SHARE = 0.1


def crops(source: Source, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Latents with a little noise and the pixels they stand for: `count` crops, or now and then a few whole images."""
    rng = random.Random(seed)
    side = scenes.IMAGE_PX if rng.random() < _WHOLE_SHARE else CROP_PX
    images = scenes.paint(
        [scenes.draw(rng, source.repertoire) for _ in range(max(1, count // 4 if side > CROP_PX else count))],
        source.sprites,
    )
    encoded = source.projection.encode(images)
    pixels, cells = [], []
    for image, latent in zip(images, encoded, strict=True):
        x, y = (rng.randrange((scenes.IMAGE_PX - side) // CELL_PX + 1) for _ in range(2))
        cells.append(latent[:, y : y + side // CELL_PX, x : x + side // CELL_PX])
        pixels.append(image[:, y * CELL_PX : y * CELL_PX + side, x * CELL_PX : x * CELL_PX + side])
    noise = torch.randn(len(cells), *cells[0].shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    return torch.stack(cells) + noise * rng.uniform(0, 2 * LATENT_NOISE), torch.stack(pixels)


def loss_of(painted: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error of the pixels and, twice over, of their differences to the right and downwards: crisp edges."""
    error = painted - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return F.smooth_l1_loss(painted, wanted, beta=0.02) + 2 * edges


class DecoderTraining(Training):
    """Pixels from latents that are a little off, as the UNet's are."""

    def __init__(self, preset: Preset, source: Source, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        decoder = _fresh(source).decoder.to(device)
        super().__init__(decoder, [adam(decoder.parameters(), preset.vae_rate)], seed)
        self.source, self.size, self.device = source, preset.vae_batch, device

    def loss(self, seed: int) -> Tensor:
        """The loss on the crops of this seed."""
        cells, pixels = crops(self.source, seed, self.size)
        with autocast(self.device):
            painted: Tensor = self.network(cells)
        return loss_of(painted.float(), pixels)


def trained(checkpoint: Path, source: Source) -> Any:
    """The VAE with the averaged decoder of a checkpoint."""
    vae = _fresh(source)
    load_average(vae.decoder, checkpoint)
    return vae.eval()


def _fresh(source: Source) -> Any:
    vae = architecture.vae()
    latents.write(vae, source.projection.to(torch.device("cpu")))
    return vae


def _make(options: Options, source: Source) -> Training:
    return DecoderTraining(options.preset, source, options.seed, options.device)


if __name__ == "__main__":
    training.main(__doc__, CHECKPOINT, lambda preset: preset.vae_steps, _make)
