"""Scenes: what stands where before which background, drawn from a seed and painted as a batch on any device."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.house.vocabulary import COLOURS, GROUNDS, RGB, SUBJECTS, held_out

IMAGE_PX = 256
MOST_SUBJECTS = 2
_STARS = 28


@dataclass(frozen=True)
class Place:
    """Where a subject stands: centre and size as fractions of the image."""

    subject: int
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Scene:
    """Up to two subjects before a plain colour, or before a ground when `ground` is set; the words are for captions."""

    places: tuple[Place, ...]
    colour: str
    ground: int | None
    seed: int
    size_word: str = ""
    side_word: str = ""
    untold: bool = False


@dataclass(frozen=True)
class Repertoire:
    """Which scenes a model learns: its subjects, how freely a lone subject is placed, and the shares of other scenes.

    `size` bounds the subject's size and `slack` its distance from the middle, both as fractions of the image. The
    shares are of all scenes: `sized` (small or large, and told so), `sided` (left or right), `empty` and `paired`.
    """

    subjects: tuple[int, ...]
    size: tuple[float, float]
    slack: float
    sized: float = 0.0
    sided: float = 0.0
    empty: float = 0.02
    paired: float = 0.0


FULL = Repertoire(tuple(range(len(SUBJECTS))), (0.55, 0.68), 0.03, sized=0.08, sided=0.04, empty=0.02, paired=0.1)
ALONE = Repertoire(FULL.subjects, (0.61, 0.65), 0.008)


def draw(rng: random.Random, repertoire: Repertoire) -> Scene:
    """One training scene of the repertoire; never a held-out pair of subject and plain colour."""
    while True:
        scene = _draw(rng, repertoire)
        if scene.ground is not None or not any(held_out(place.subject, scene.colour) for place in scene.places):
            return scene


def single(subject: int, colour: str, rng: random.Random, repertoire: Repertoire = FULL) -> Scene:
    """A subject of ordinary size near the middle of a plain colour."""
    return Scene((_central(subject, repertoire, rng),), colour, None, rng.getrandbits(31))


def _draw(rng: random.Random, repertoire: Repertoire) -> Scene:
    colour = rng.choice(list(COLOURS))
    ground = rng.randrange(len(GROUNDS)) if rng.random() < 0.25 else None
    subject, seed, untold = rng.choice(repertoire.subjects), rng.getrandbits(31), rng.random() < 0.06
    kind = rng.random()
    if kind < repertoire.sized:
        least, most, words = rng.choice(
            ((0.34, 0.42, ("small", "tiny", "little")), (0.8, 0.9, ("big", "large", "huge")))
        )
        place = Place(subject, _around(0.5, 0.03, rng), _around(0.5, 0.03, rng), rng.uniform(least, most))
        return Scene((place,), colour, ground, seed, size_word=rng.choice(words))
    kind -= repertoire.sized
    if kind < repertoire.sided:
        side = rng.choice(("left", "right"))
        place = Place(subject, _around(0.28 if side == "left" else 0.72, 0.03, rng), _around(0.52, 0.05, rng), 0.44)
        return Scene((place,), colour, ground, seed, side_word=side)
    kind -= repertoire.sided
    if kind < repertoire.empty:
        return Scene((), colour, ground, seed)
    kind -= repertoire.empty
    if kind < repertoire.paired:
        return Scene(_pair(subject, rng.choice(repertoire.subjects), rng), colour, ground, seed, untold=untold)
    return Scene((_central(subject, repertoire, rng),), colour, ground, seed, untold=untold)


def _pair(left: int, right: int, rng: random.Random) -> tuple[Place, ...]:
    size, y = rng.uniform(0.4, 0.46), _around(0.53, 0.04, rng)
    return (Place(left, _around(0.27, 0.02, rng), y, size), Place(right, _around(0.73, 0.02, rng), y, size))


def pair(left: int, right: int, colour: str, rng: random.Random) -> Scene:
    """Two subjects side by side before a plain colour."""
    return Scene(_pair(left, right, rng), colour, None, rng.getrandbits(31))


def _central(subject: int, repertoire: Repertoire, rng: random.Random) -> Place:
    size, slack = rng.uniform(*repertoire.size), repertoire.slack
    return Place(subject, _around(0.5, slack, rng), _around(0.52, slack, rng), size)


def _around(middle: float, slack: float, rng: random.Random) -> float:
    return middle + rng.uniform(-slack, slack)


def paint(scenes: Sequence[Scene], sprites: Tensor) -> Tensor:
    """The scenes as float images (batch, 3, 256, 256) in -1 to 1, on the device of `sprites`.

    `sprites`: uint8 (subjects, 4, side, side), colour premultiplied by alpha.
    """
    image = _backgrounds(scenes, sprites.device)
    for order in range(MOST_SUBJECTS):
        rows = [row for row, scene in enumerate(scenes) if len(scene.places) > order]
        if rows:
            layer = _layer([scenes[row].places[order] for row in rows], sprites)
            image[rows] = image[rows] * (1 - layer[:, 3:]) + layer[:, :3]
    return image.clamp(0, 1) * 2 - 1


def _layer(places: Sequence[Place], sprites: Tensor) -> Tensor:
    """Each place's sprite alone on a transparent canvas (batch, 4, 256, 256), 0 to 1."""
    theta = torch.zeros(len(places), 2, 3)
    for row, place in enumerate(places):
        theta[row, 0, 0] = theta[row, 1, 1] = 1 / place.size
        theta[row, 0, 2] = (1 - 2 * place.x) / place.size
        theta[row, 1, 2] = (1 - 2 * place.y) / place.size
    grid = F.affine_grid(theta.to(sprites.device), [len(places), 4, IMAGE_PX, IMAGE_PX], align_corners=False)
    chosen = sprites[[place.subject for place in places]].float() / 255
    return F.grid_sample(chosen, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _backgrounds(scenes: Sequence[Scene], device: torch.device) -> Tensor:
    """The backgrounds alone (batch, 3, 256, 256), 0 to 1: a gradient, and land below a horizon where there is one."""
    backdrops = [_backdrop(scene) for scene in scenes]
    numbers = torch.tensor([backdrop.numbers for backdrop in backdrops], device=device)[:, :, None, None]
    top, bottom, land = numbers[:, 0:3], numbers[:, 3:6], numbers[:, 6:9]
    horizon, swell, crest = numbers[:, 9:10], numbers[:, 10:11], numbers[:, 11:12]
    down = ((torch.arange(IMAGE_PX, device=device) + 0.5) / IMAGE_PX).view(1, 1, -1, 1)
    across = down.transpose(2, 3)
    image = (top + (bottom - top) * down).expand(-1, -1, -1, IMAGE_PX).contiguous()
    for row, backdrop in enumerate(backdrops):
        for x, y, side, brightness in backdrop.stars:
            image[row, :, y : y + side, x : x + side] = brightness
    below = ((down - horizon + swell * torch.cos((across - crest) * 5)) * IMAGE_PX).clamp(0, 1)
    return image * (1 - below) + land * below


@dataclass(frozen=True)
class _Backdrop:
    """Colours of sky top, sky bottom and land, then horizon, height of its swell and where the crest is; and stars."""

    numbers: tuple[float, ...]
    stars: tuple[tuple[int, int, int, float], ...] = ()


def _backdrop(scene: Scene) -> _Backdrop:
    rng = random.Random(scene.seed)
    if scene.ground is None:
        colour = _jittered(COLOURS[scene.colour], rng)
        return _Backdrop((*colour, *colour, 0, 0, 0, 2, 0, 0))
    ground = GROUNDS[scene.ground]
    sky = (*_jittered(ground.sky_top, rng), *_jittered(ground.sky_bottom, rng), *_jittered(ground.land, rng))
    horizon = 2.0 if ground.horizon is None else _around(ground.horizon, 0.03, rng)
    edge = (horizon, 0.05 if ground.hilly else 0.0, rng.uniform(0.2, 0.8))
    return _Backdrop((*sky, *edge), _stars(rng) if ground.stars else ())


def _stars(rng: random.Random) -> tuple[tuple[int, int, int, float], ...]:
    """Column, row, side in pixels and brightness of each."""
    return tuple(
        (rng.randrange(IMAGE_PX - 4), rng.randrange(IMAGE_PX - 4), rng.choice((2, 3, 3, 4)), rng.uniform(0.75, 1))
        for _ in range(_STARS)
    )


def _jittered(colour: RGB, rng: random.Random) -> tuple[float, float, float]:
    red, green, blue = (min(255.0, max(0.0, _around(value, 8, rng))) / 255 for value in colour)
    return red, green, blue
