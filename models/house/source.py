"""Where training batches come from: scenes drawn from a seed, painted, projected to latents, and told in English."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from models.house import latents, scenes, sprites, tokenizer
from models.house.captions import caption
from models.house.scenes import FULL, Repertoire

UNTOLD_SHARE = 0.1
_FITTED_SCENES = 512


@dataclass(frozen=True)
class Batch:
    """Clean latents (batch, 16, 16, 16) and the tokens of their captions (batch, 32)."""

    clean: Tensor
    token_ids: Tensor


@dataclass(frozen=True)
class Source:
    """Where batches come from: sprites, the scenes to draw, the projection to latents and the tokenizer."""

    sprites: Tensor
    repertoire: Repertoire
    projection: latents.Projection
    words: Any

    def batch(self, seed: int, size: int) -> Batch:
        """The batch of this seed, always the same."""
        rng = random.Random(seed)
        drawn = [scenes.draw(rng, self.repertoire) for _ in range(size)]
        told = ["" if rng.random() < UNTOLD_SHARE else caption(scene, rng) for scene in drawn]
        tokens = self.words(
            told, padding="max_length", max_length=tokenizer.TOKENS, truncation=True, return_tensors="pt"
        )
        clean = self.projection.encode(scenes.paint(drawn, self.sprites))
        return Batch(clean, tokens.input_ids.to(clean.device))


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
