"""Pictures to begin from, drawn on the spot, and their encoded forms."""

import io
from typing import Any

import numpy as np
from frontispiece.types.v1 import generation_pb2 as types
from numpy.typing import NDArray
from PIL import Image

from services.generator.images.mask import soften
from services.generator.models import InitialPixels


def blobs(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft colours all over, (height, width, 3); another seed gives other ones."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def disc(width: int, height: int) -> NDArray[np.bool_]:
    """True inside an ellipse left of the middle, whose border follows no grid."""
    y, x = np.mgrid[:height, :width]
    inside: NDArray[np.bool_] = ((x - 0.4 * width) / (0.29 * width)) ** 2 + (
        (y - 0.5 * height) / (0.33 * height)
    ) ** 2 < 1
    return inside


def initial(
    strength: float, *, masked: bool = False, feather: int = 0, width: int = 64, height: int = 64, seed: int = 0
) -> InitialPixels:
    """What the engine is given to begin from; its border is hard, as the stock pipelines', unless told otherwise."""
    opacity = soften(disc(width, height), feather) if masked else None
    return InitialPixels(blobs(width, height, seed), opacity, types.InitialImage(strength=strength))


def encode(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file that a client would send."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def encode_mask(painted: NDArray[np.bool_]) -> bytes:
    """White where to paint."""
    return encode(painted.astype(np.uint8) * 255)
