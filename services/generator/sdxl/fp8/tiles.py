"""How a convolution may be cut up for the GPU. Knows no Triton, so that it can be imported everywhere."""

from typing import NamedTuple


class Tile(NamedTuple):
    """Output pixels × output channels of one program, and input channels of one turn of its loop.

    `warps` compute it, and `stages` turns are loaded ahead. Every one of TILES fits into an H200 without spilling
    registers (so says the compiler); which is fastest for a shape is measured there.
    """

    pixels: int
    outputs: int
    channels: int
    warps: int
    stages: int


TILES = (
    Tile(128, 128, 128, 8, 3),
    Tile(128, 256, 64, 8, 4),
    Tile(128, 256, 128, 8, 3),
    Tile(128, 128, 64, 4, 4),
    Tile(64, 128, 128, 4, 4),
)
