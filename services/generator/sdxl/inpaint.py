"""Inpainting: which part of an image is kept, in the latents after every step, and in the pixels at the end.

This needs nothing of the checkpoint: any one inpaints. A UNet with nine channels is not needed and not taken.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Tensor = torch.Tensor
Level = tuple[float, float]
"""How much of the image and how much of the noise is in the latents."""


@dataclass(frozen=True, eq=False)
class KeptRegion:
    """The picture's latents and the noise over them, both (channels, h, w); `painted` (h, w) is true elsewhere.

    `levels` tells for each step how noisy the latents are after it.
    """

    original: Tensor
    noise: Tensor
    painted: Tensor
    levels: tuple[Level, ...]

    def restore(self, latents: Tensor, step: int) -> Tensor:
        """The latents (channels, h, w) after that step, counted from 0, with the kept part put back."""
        signal, noise = self.levels[step]
        return torch.where(self.painted, latents, signal * self.original + noise * self.noise)


def painted_cells(painted: NDArray[np.bool_], height: int, width: int) -> Tensor:
    """Which of height × width latents to paint: those of which any pixel is painted.

    The pixels that are kept are put back at the end, so that a cell on the border may well be painted.
    """
    side = painted.shape[0] // height
    return torch.from_numpy(painted.reshape(height, side, width, side).any(axis=(1, 3)))


def keep_pixels(
    image: NDArray[np.uint8], original: NDArray[np.uint8], opacity: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """`image` where `opacity` (height, width) is 1, `original` where it is 0, both to the last bit; elsewhere mixed.

    Both are (height, width, 3). A mixed value is rounded once.
    """
    finished = np.where(opacity[..., None] > 0, image, original)
    mixed = np.nonzero((opacity > 0) & (opacity < 1))
    old, new = original[mixed].astype(np.float32), image[mixed].astype(np.float32)
    finished[mixed] = np.rint(old + opacity[mixed][:, None] * (new - old))
    return finished
