"""Where training batches come from: scenes drawn from a seed, painted, projected to latents, and told in English."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.house import latents, scenes, sprites, tokenizer
from models.house.captions import caption
from models.house.scenes import FULL, Repertoire

UNTOLD_SHARE = 0.1
_FITTED_SCENES = 512
POOL = 16_384
"""How many different scenes a training sees: painting each once and keeping its latents costs 134 MB and saves a tenth
of the time of a step on a CPU; captions are composed for each step."""


@dataclass(frozen=True)
class Batch:
    """Clean latents (batch, 16, 16, 16) and the tokens of their captions (batch, 32)."""

    clean: Tensor
    token_ids: Tensor


class Encoder(Protocol):
    """Pictures to latents."""

    def encode(self, image: Tensor) -> Tensor:
        """Latents (batch, 16, 16, 16) of images (batch, 3, 256, 256) in -1 to 1."""


@dataclass(frozen=True)
class Source:
    """Where batches come from: sprites, the scenes to draw, the projection to latents and the tokenizer.

    `encoder` makes the latents where there is a model already, whose projection may be that of another work folder.
    """

    sprites: Tensor
    repertoire: Repertoire
    projection: latents.Projection
    words: Any
    encoder: Encoder | None = None
    _painted: dict[int, Tensor] = field(default_factory=dict)

    def batch(self, seed: int, size: int) -> Batch:
        """The batch of this seed, always the same."""
        clean, told = self.told(seed, size)
        tokens = self.words(
            told, padding="max_length", max_length=tokenizer.TOKENS, truncation=True, return_tensors="pt"
        )
        return Batch(clean, tokens.input_ids.to(clean.device))

    def told(self, seed: int, size: int) -> tuple[Tensor, list[str]]:
        """The clean latents of that batch, and their captions; some are empty."""
        rng = random.Random(seed)
        numbers = [rng.randrange(POOL) for _ in range(size)]
        drawn = {number: scenes.draw(random.Random(number), self.repertoire) for number in numbers}
        told = ["" if rng.random() < UNTOLD_SHARE else caption(drawn[number], rng) for number in numbers]
        self._paint({number: scene for number, scene in drawn.items() if number not in self._painted})
        return torch.stack([self._painted[number] for number in numbers]).float(), told

    def _paint(self, drawn: dict[int, scenes.Scene]) -> None:
        if drawn:
            encoder = self.encoder or self.projection
            painted = encoder.encode(scenes.paint(list(drawn.values()), self.sprites)).half()
            self._painted.update(zip(drawn, painted, strict=True))


def prepare(work: Path, repertoire: Repertoire, seed: int, device: torch.device) -> Source:
    """Sprites, projection and tokenizer, made in `work` the first time."""
    pictures = sprites.load(work)
    words_path, projection_path = work / "tokenizer", work / "projection.pt"
    if not projection_path.exists():
        rng = random.Random(seed)
        shown = scenes.paint([scenes.draw(rng, FULL) for _ in range(_FITTED_SCENES)], pictures)
        torch.save(vars(latents.fit(shown)), projection_path)
    if not words_path.exists():
        tokenizer.train(sprites.names(work), seed).save_pretrained(words_path)
    projection = latents.Projection(**torch.load(projection_path))
    return Source(pictures.to(device), repertoire, projection.to(device), CLIPTokenizer.from_pretrained(words_path))
