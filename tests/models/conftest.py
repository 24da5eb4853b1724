"""Sprites of plain colours, so that nothing is fetched or rendered, and a model small enough to train in a test."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.house import latents, scenes, tokenizer
from models.house.architecture import PRESETS, Preset
from models.house.source import Source
from models.house.vocabulary import SUBJECTS


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """A disc for every subject, each in its own colour."""
    side = torch.linspace(-1, 1, 32)
    disc = ((side[:, None] ** 2 + side[None] ** 2) < 0.8).to(torch.uint8)
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (len(SUBJECTS), 3), generator=generator, dtype=torch.uint8)
    alpha = (disc * 255).expand(len(SUBJECTS), 1, -1, -1)
    return torch.cat([colours[:, :, None, None] * disc, alpha], dim=1)


@pytest.fixture(scope="session")
def preset() -> Preset:
    return replace(
        PRESETS["cpu"], unet_channels=(16, 16, 32, 32), unet_batch=2, text_batch=2, vae_batch=1, prose_batch=4
    )


@pytest.fixture(scope="session")
def source(pictures: Tensor, preset: Preset) -> Source:
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 32, 32, generator=generator) * 2 - 1, scale_factor=8.0)
    words = tokenizer.train(["alarm clock", "ox", "zebra"], seed=0)
    assert images.shape[-1] == scenes.IMAGE_PX
    return Source(pictures, preset.repertoire, latents.fit(images), words)
