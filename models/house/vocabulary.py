"""The words the house model knows: subjects, plain colours and grounds, each with the ways people say them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class RGB(NamedTuple):
    """A colour in sRGB, 0 to 255 each."""

    red: int
    green: int
    blue: int


_NO_LAND = RGB(0, 0, 0)


@dataclass(frozen=True)
class Subject:
    """Something to draw: its icon in the emoji sets, its names (the first is the label) and what may describe it."""

    icon: str
    names: tuple[str, ...]
    adjectives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """A place behind the subject: sky from top to bottom, what lies below the horizon (0 to 1, None for all sky)."""

    name: str
    phrases: tuple[str, ...]
    sky_top: RGB
    sky_bottom: RGB
    land: RGB = _NO_LAND
    horizon: float | None = None
    hilly: bool = False
    stars: bool = False


def _subjects(table: str) -> tuple[Subject, ...]:
    """Read lines of `icon | names | adjectives`, both lists separated by commas."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return tuple(Subject(icon, _words(names), _words(adjectives)) for icon, names, adjectives in rows)


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split(",") if word.strip())


SUBJECTS = _subjects("""
    red-apple          | apple                             | red, ripe
    banana             | banana                            | yellow, ripe
    strawberry         | strawberry, berry                 | red, sweet
    watermelon         | watermelon, melon                 | juicy, fresh
    grapes             | grapes, bunch of grapes           | purple, sweet
    pineapple          | pineapple                         | tropical, ripe
    cherries           | cherries, cherry                  | red, sweet
    carrot             | carrot                            | orange, fresh
    mushroom           | mushroom, toadstool               | red, wild
    pizza              | pizza, slice of pizza             | hot, cheesy
    hamburger          | hamburger, burger                 | juicy, tasty
    birthday-cake      | cake, birthday cake               | sweet, festive
    doughnut           | doughnut, donut                   | sweet, brown
    soft-ice-cream     | ice cream, ice cream cone         | sweet, cold
    hot-beverage       | coffee, cup of coffee             | hot, steaming
    cat-face           | cat, kitten, kitty                | orange, cute
    dog-face           | dog, puppy                        | brown, cute
    fox                | fox                               | orange, clever
    panda              | panda, panda bear                 | cute, black and white
    lion               | lion                              | brave, proud
    frog               | frog, toad                        | green, happy
    pig-face           | pig, piglet                       | pink, happy
    rabbit-face        | rabbit, bunny                     | grey, cute
    penguin            | penguin                           | cute, little
    owl                | owl                               | brown, wise
    tropical-fish      | fish, tropical fish               | colourful, little
    octopus            | octopus                           | orange, happy
    spouting-whale     | whale                             | blue, happy
    turtle             | turtle, tortoise                  | green, slow
    butterfly          | butterfly                         | orange, pretty
    honeybee           | bee, honeybee                     | yellow, busy
    elephant           | elephant                          | grey, heavy
    unicorn            | unicorn                           | white, magic
    sailboat           | sailboat, boat, sailing boat      | little, fast
    automobile         | car, automobile                   | red, fast
    airplane           | airplane, plane, aeroplane        | grey, fast
    rocket             | rocket, spaceship                 | fast, shiny
    locomotive         | train, steam train, locomotive    | old, fast
    bicycle            | bicycle, bike                     | red, fast
    house              | house, home                       | cosy, nice
    castle             | castle, fortress                  | old, grand
    tent               | tent                              | green, cosy
    snow-capped-mountain | mountain, snowy mountain        | high, tall
    evergreen-tree     | pine tree, fir tree, evergreen tree | green, tall
    palm-tree          | palm tree, palm                   | green, tropical
    cactus             | cactus                            | green, spiky
    sunflower          | sunflower                         | yellow, bright
    rose               | rose                              | red, pretty
    sun                | sun                               | yellow, bright
    crescent-moon      | moon, crescent moon               | yellow, bright
    star               | star                              | yellow, shiny
    rainbow            | rainbow                           | colourful, bright
    snowman            | snowman                           | white, happy
    red-heart          | heart                             | red, lovely
    umbrella           | umbrella                          | purple, open
    key                | key                               | golden, old
    guitar             | guitar                            | red, loud
    soccer-ball        | football, soccer ball             | blue and white, round
    crown              | crown                             | golden, royal
    wrapped-gift       | gift, present, wrapped gift       | festive, yellow
    light-bulb         | light bulb, lamp                  | bright, yellow
    camera             | camera, photo camera              | purple, old
    gem-stone          | diamond, gem, jewel               | blue, shiny
    ghost              | ghost                             | white, friendly
    robot              | robot                             | grey, friendly
    jack-o-lantern     | pumpkin, halloween pumpkin        | orange, spooky
""")

COLOURS: dict[str, RGB] = {
    "red": RGB(212, 46, 48),
    "orange": RGB(243, 140, 32),
    "yellow": RGB(250, 212, 62),
    "green": RGB(62, 164, 76),
    "blue": RGB(48, 108, 220),
    "purple": RGB(128, 68, 188),
    "pink": RGB(248, 150, 192),
    "white": RGB(250, 250, 250),
    "black": RGB(24, 24, 28),
    "grey": RGB(150, 152, 158),
}
COLOUR_SPELLINGS: dict[str, tuple[str, ...]] = {"grey": ("grey", "gray"), "purple": ("purple", "violet")}

GROUNDS = (
    Ground(
        "night",
        ("at night", "in the night sky", "under the stars", "in a starry night"),
        RGB(14, 18, 52),
        RGB(48, 52, 112),
        stars=True,
    ),
    Ground(
        "meadow",
        ("in a meadow", "on a green hill", "in the grass", "in a green field"),
        RGB(118, 190, 246),
        RGB(208, 234, 252),
        RGB(104, 184, 76),
        0.7,
        hilly=True,
    ),
    Ground(
        "sea",
        ("at sea", "by the sea", "on the water", "over the ocean"),
        RGB(158, 214, 250),
        RGB(222, 242, 252),
        RGB(30, 116, 190),
        0.64,
    ),
    Ground(
        "sunset",
        ("at sunset", "in front of a sunset", "at dusk", "in the evening"),
        RGB(98, 56, 138),
        RGB(252, 158, 84),
    ),
    Ground(
        "snow",
        ("in the snow", "in winter", "on snow", "in a snowy field"),
        RGB(150, 178, 206),
        RGB(204, 218, 232),
        RGB(246, 250, 254),
        0.68,
        hilly=True,
    ),
)

UNCOUNTED = frozenset({"grapes", "cherries", "coffee", "ice cream"})


def held_out(subject: int, colour: str) -> bool:
    """Whether no training scene may show this subject on this plain colour: a fixed third of all pairs."""
    return (subject + list(COLOURS).index(colour) * 2) % 3 == 0


def colour_names(colour: str) -> tuple[str, ...]:
    """The ways to spell a plain colour."""
    return COLOUR_SPELLINGS.get(colour, (colour,))
