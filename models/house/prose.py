"""Captions as people write prompts: with moods, media and reasons around them, of which the model knows nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from models.house.captions import article
from models.house.vocabulary import COLOUR_SPELLINGS, COLOURS, GROUNDS, SUBJECTS

PLAIN_SHARE = 0.25
"""How many captions are told alone."""

_MOST_ASIDES = 9


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_ADJECTIVES = _listed("""
soft gentle warm quiet calm detailed intricate simple minimal elegant modern vintage rustic cinematic dramatic dreamy
whimsical playful cheerful moody serene peaceful majestic delicate bold vivid muted pastel glowing hazy misty crisp
sharp smooth rough textured flat geometric abstract realistic professional beautiful stunning charming humorous subtle
rich deep wide distant close blurred wooden silver natural famous quick careful early late long short new young modest
clean
""")
_NOUNS = _listed("""
light shadow mood atmosphere composition foreground texture brush strokes watercolour oil paint pencil sketch art
illustration poster magazine article blog newsletter cover story book season morning afternoon summer spring autumn
lighting focus depth lens perspective angle view details lines shapes contrast palette tones harmony space margin
frame style studio canvas paper ink travel food health money science politics history culture sport weekend city
village street garden kitchen office school market museum library people text letters logo quality resolution artist
photograph screen reader editor page title idea project future past feeling music window table hand wind weather rain
cloud
""")
_KINDS = {"adjective": _ADJECTIVES, "noun": _NOUNS}
_ASIDES = (
    "{adjective} {noun}",
    "{adjective} {noun}",
    "in {adjective} {noun}",
    "with {adjective} {noun}",
    "with {noun} and {noun}",
    "{adjective} and {adjective}",
    "no {noun}",
    "no {noun}, no {noun}",
    "{adjective} {noun} style",
    "by {noun} {noun}",
    "inspired by {noun}",
    "for {a_noun} about {noun}",
    "as {an_adjective_noun}",
    "full of {noun}",
    "seen from {an_adjective_noun}",
    "{adjective}, {adjective}, {adjective}",
    "{adjective} {noun} and {adjective} {noun}",
    "the {noun} of {adjective} {noun}",
    "high {noun}",
    "{noun}",
)
_BEFORE = (
    "please paint ",
    "create {an_adjective_noun} showing ",
    "we need {a_noun} for {noun}: ",
    "for our {noun} about {noun} and {noun}, ",
    "{an_adjective_noun} of ",
    "{adjective} {noun}, ",
    "imagine ",
    "the {noun} is about {adjective} {noun}; show ",
    "I would like ",
    "{adjective} {noun} with ",
    "{an_adjective_noun} about {noun} and {adjective} {noun} opens with ",
    "the {noun} of this {noun} is {adjective}, its {noun} {adjective} and {adjective}: ",
    "{adjective}, {adjective} {noun}; {noun} and {noun} for {adjective} {noun}, ",
)
_AFTER = (
    ". The {noun} should be {adjective} and {adjective}",
    ". Make it {adjective}",
    "; {adjective} {noun}, {adjective} {noun}",
    ", and nothing else",
    ". It is for {a_noun} about {adjective} {noun}",
    ". Use {adjective} {noun} and {noun}",
)


@dataclass(frozen=True)
class Prose:
    """Writes around captions with words that the model knows nothing of; `strange` are more such words."""

    strange: Sequence[str]

    def around(self, caption: str, rng: random.Random) -> str:
        """The caption, three times out of four with up to three sentences before it, nine asides and two after it.

        What stands before pushes the caption's end into the second chunk, which is the hardest to read.
        """
        if rng.random() < PLAIN_SHARE:
            return caption
        before = "".join(self._filled(rng.choice(_BEFORE), rng) for _ in range(rng.choice((0, 0, 1, 1, 2, 3))))
        text = before + caption.rstrip(".")
        for _ in range(int(rng.triangular(0, _MOST_ASIDES + 1, 2))):
            text += ", " + self._filled(rng.choice(_ASIDES), rng)
        for _ in range(rng.choice((0, 0, 1, 2))):
            text += self._filled(rng.choice(_AFTER), rng)
        return text

    def _filled(self, template: str, rng: random.Random) -> str:
        return template.format_map(_Slots(self, rng))

    def word(self, common: Sequence[str], rng: random.Random) -> str:
        """One of the `common` words, a strange one, or one that does not exist."""
        chance = rng.random()
        if chance < 0.6:
            return rng.choice(common)
        if chance < 0.85:
            return rng.choice(self.strange)
        syllables = [rng.choice("bcdfglmnprstvw") + rng.choice("aeiou") for _ in range(rng.choice((1, 1, 2, 3)))]
        invented = "".join(syllables) + rng.choice("lmnrsty")
        return invented if invented not in _KNOWN else self.word(common, rng)  # a car, the sun


class _Slots(dict[str, str]):
    """What stands in a template's slots, drawn anew for each: `noun`, `an_adjective_noun` and so on."""

    def __init__(self, prose: Prose, rng: random.Random) -> None:
        super().__init__()
        self._prose, self._rng = prose, rng

    def __missing__(self, slot: str) -> str:
        kinds = slot.split("_")
        words = [self._prose.word(_KINDS[kind], self._rng) for kind in kinds if kind in _KINDS]
        return article(" ".join(words)) if kinds[0] not in _KINDS else " ".join(words)


def strange_words(english: Iterable[str]) -> list[str]:
    """The words of `english` that captions never use."""
    return sorted({word for text in english for word in text.lower().split() if word.isalpha()} - _KNOWN)


def _known() -> set[str]:
    subjects = chain.from_iterable((*subject.names, *subject.adjectives) for subject in SUBJECTS)
    grounds = chain.from_iterable((ground.name, *ground.phrases) for ground in GROUNDS)
    spellings = chain.from_iterable(COLOUR_SPELLINGS.values())
    return {word for text in (*subjects, *grounds, *COLOURS, *spellings) for word in text.split()}


_KNOWN = _known()
"""Every word that tells something about a scene."""
