"""Scenes told in English: the same scene in many wordings, so that none of them is a password."""

from __future__ import annotations

import random

from models.house.scenes import Scene
from models.house.vocabulary import GROUNDS, SUBJECTS, UNCOUNTED, colour_names

_LEADS = ("", "", "", "", "a picture of ", "an image of ", "a drawing of ", "an illustration of ")
_ON_COLOUR = (
    "on a {} background",
    "on a {} background",
    "on a plain {} background",
    "with a {} background",
    "against a {} background",
    "in front of a {} background",
    "on {}",
    "{} background",
)


def article(noun: str) -> str:
    """The noun with its indefinite article, where it takes one."""
    if noun in UNCOUNTED:
        return noun
    return f"{'an' if noun[0] in 'aeio' or noun.startswith('umb') else 'a'} {noun}"


def caption(scene: Scene, rng: random.Random) -> str:
    """One English description of the scene, drawn with `rng`; what it leaves unsaid may be anything."""
    subject = _subjects(scene, rng)
    background = _background(scene, rng)
    if not subject:
        return background.removeprefix("on ").removeprefix("in front of ")
    if background and rng.random() < 0.08:
        return f"{background}, {subject}"
    joint = ", " if background.endswith("background") and background[0] != "o" and rng.random() < 0.5 else " "
    return _varied(rng.choice(_LEADS) + subject + (joint + background if background else ""), rng)


def _subjects(scene: Scene, rng: random.Random) -> str:
    phrases = [
        _noun_phrase(place.subject, scene.size_word if len(scene.places) == 1 else "", rng) for place in scene.places
    ]
    if len(phrases) == 2:
        joint = rng.choice((" and ", " and ", " and ", " next to ", " beside ", " to the left of "))
        return joint.join(phrases)
    if phrases and scene.side_word:
        return f"{phrases[0]} on the {scene.side_word}"
    return phrases[0] if phrases else ""


def _noun_phrase(subject: int, size_word: str, rng: random.Random) -> str:
    words = SUBJECTS[subject]
    noun = words.names[0] if rng.random() < 0.6 else rng.choice(words.names)
    if size_word and noun in UNCOUNTED:
        return f"{size_word} {noun}"
    plain = noun
    if words.adjectives and rng.random() < 0.35:
        plain = f"{rng.choice(words.adjectives)} {plain}"
    if size_word:
        plain = f"{size_word} {plain}"
    if noun in UNCOUNTED:
        return plain
    chance = rng.random()
    if chance < 0.12:
        return plain
    return f"{'the' if chance < 0.2 else 'one' if chance < 0.24 else article(plain).split()[0]} {plain}"


def _background(scene: Scene, rng: random.Random) -> str:
    if scene.untold:
        return ""
    if scene.ground is not None:
        return rng.choice(GROUNDS[scene.ground].phrases)
    return rng.choice(_ON_COLOUR).format(rng.choice(colour_names(scene.colour)))


def _varied(text: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.15:
        return text + "."
    return text[0].upper() + text[1:] if chance < 0.3 else text
