"""The judge of the evaluation: a small network that names the subject of a picture, trained on renders only."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.house import scenes
from models.house.scenes import Place, Repertoire, Scene
from models.house.vocabulary import COLOURS, GROUNDS, SUBJECTS

_STEPS, _BATCH, _RATE = 1_000, 32, 2e-3
_SEED = 90_001
HELD_OUT_RENDERS = 512
LEAST_ACCURACY = 0.95


class Classifier(nn.Module):
    """Four strided convolutions over the picture at a quarter of its size."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (3, 32, 64, 96, 128)
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Conv2d(widths[-1], 128, 3, padding=1), nn.ReLU())
        self.names = nn.Linear(128, len(SUBJECTS))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (batch, subjects) of images (batch, 3, 256, 256) in -1 to 1."""
        scores: Tensor = self.names(self.features(F.avg_pool2d(images, 4)).amax(dim=(2, 3)))
        return scores


def load(work: Path, sprites: Tensor, repertoire: Repertoire) -> Classifier:
    """The judge, trained the first time. Raises ValueError when it errs on more than 5 % of renders it never saw."""
    stored = work / f"classifier-{len(repertoire.subjects)}.pt"
    judge = Classifier().to(sprites.device)
    if stored.exists():
        judge.load_state_dict(torch.load(stored, map_location=sprites.device))
    else:
        _train(judge, sprites, repertoire)
        torch.save(judge.state_dict(), stored)
    judge.eval()
    reached = accuracy(judge, sprites, repertoire)
    if reached < LEAST_ACCURACY:
        raise ValueError(f"the judge names only {reached:.1%} of held-out renders; delete {stored} and train it longer")
    return judge


@torch.no_grad()
def accuracy(judge: Classifier, sprites: Tensor, repertoire: Repertoire) -> float:
    """The share of renders that the judge names rightly, of 512 drawn from another seed than it was trained on."""
    rng = random.Random(_SEED + 1)
    right = 0
    for _ in range(HELD_OUT_RENDERS // _BATCH):
        drawn = [_scene(rng, repertoire) for _ in range(_BATCH)]
        right += (judge(scenes.paint(drawn, sprites)).argmax(1) == _labels(drawn, sprites.device)).sum().item()
    return right / HELD_OUT_RENDERS


def _train(judge: Classifier, sprites: Tensor, repertoire: Repertoire) -> None:
    rng = random.Random(_SEED)
    torch.manual_seed(_SEED)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        drawn = [_scene(rng, repertoire) for _ in range(_BATCH)]
        images = scenes.paint(drawn, sprites)
        images = images + torch.randn_like(images) * 0.1 * rng.random()
        loss = F.cross_entropy(judge(images), _labels(drawn, sprites.device))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()


def _scene(rng: random.Random, repertoire: Repertoire) -> Scene:
    """Any subject, a third to nine tenths of the picture, anywhere in it, before anything."""
    size = rng.uniform(0.35, 0.9)
    slack = (1 - size) / 2
    place = Place(
        rng.choice(repertoire.subjects), 0.5 + rng.uniform(-slack, slack), 0.5 + rng.uniform(-slack, slack), size
    )
    ground = rng.randrange(len(GROUNDS)) if rng.random() < 0.2 else None
    return Scene((place,), rng.choice(list(COLOURS)), ground, rng.getrandbits(31))


def _labels(drawn: list[Scene], device: torch.device) -> Tensor:
    return torch.tensor([scene.places[0].subject for scene in drawn], device=device)
