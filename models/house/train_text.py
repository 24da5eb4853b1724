"""Teach the text encoders to read: from the caption alone, sketch the picture. The UNet then learns from readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.house import architecture, training
from models.house.architecture import TEXT_WIDTH, Preset
from models.house.latents import CELL_PX, CHANNELS
from models.house.scenes import IMAGE_PX
from models.house.source import Source
from models.house.training import Options, Training, adam, autocast, load_average

CHECKPOINT = "text.pt"
_HIDDEN = 512


class Sketcher(nn.Module):
    """Both text encoders, and a small head that turns their two sentences into latents; only the encoders are kept."""

    def __init__(self, words: Any) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = architecture.text_encoders(words)
        cells = (IMAGE_PX // CELL_PX) ** 2
        self.head = nn.Sequential(nn.Linear(2 * TEXT_WIDTH, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, CHANNELS * cells))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Latents (batch, 16 × 16 × 16), flat, as far as token ids (batch, 32) tell them."""
        first = self.text_encoder(token_ids).pooler_output
        second = self.text_encoder_2(token_ids).text_embeds
        sketched: Tensor = self.head(torch.cat([first, second], dim=1))
        return sketched


class TextTraining(Training):
    """Squared error of the sketch."""

    def __init__(self, preset: Preset, source: Source, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        sketcher = Sketcher(source.words).to(device)
        super().__init__(sketcher, [adam(sketcher.parameters(), preset.text_rate)], seed)
        self.source, self.size, self.device = source, preset.text_batch, device

    def loss(self, seed: int) -> Tensor:
        """The loss on the batch of this seed."""
        batch = self.source.batch(seed, self.size)
        with autocast(self.device):
            sketched: Tensor = self.network(batch.token_ids)
        return (sketched.float() - batch.clean.flatten(1)).square().mean()


def trained(checkpoint: Path, words: Any) -> tuple[Any, Any]:
    """Both text encoders with the averaged weights of a checkpoint, which learn no more."""
    sketcher = Sketcher(words)
    load_average(sketcher, checkpoint)
    sketcher.requires_grad_(False)
    return sketcher.text_encoder, sketcher.text_encoder_2


def _make(options: Options, source: Source) -> Training:
    return TextTraining(options.preset, source, options.seed, options.device)


if __name__ == "__main__":
    training.main(__doc__, CHECKPOINT, lambda preset: preset.text_steps, _make)
