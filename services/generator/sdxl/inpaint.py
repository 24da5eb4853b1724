"""Inpainting: keeps a region of the initial image, in the latents after every step and in the pixels at the end.

Every checkpoint can inpaint this way. A UNet with nine input channels is neither needed nor supported.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Tensor = torch.Tensor
Level = tuple[float, float]
"""The shares of the image and of the noise in the latents."""


@dataclass(frozen=True, eq=False)
class KeptRegion:
    """The latents of the initial image and their noise, both (channels, h, w); `painted` (h, w) is false where they
    stay.

    `levels` is the noise level of the latents after each step.
    """

    original: Tensor
    noise: Tensor
    painted: Tensor
    levels: tuple[Level, ...]

    def restore(self, latents: Tensor, step: int) -> Tensor:
        """The latents (channels, h, w) after step number `step`, from 0, with the kept region restored."""
        signal, noise = self.levels[step]
        return torch.where(self.painted, latents, signal * self.original + noise * self.noise)


def painted_cells(painted: NDArray[np.bool_], height: int, width: int) -> Tensor:
    """Which of height × width latents change: those that cover a painted pixel.

    The kept pixels of such a cell are restored at the end.
    """
    side = painted.shape[0] // height
    return torch.from_numpy(painted.reshape(height, side, width, side).any(axis=(1, 3)))


def keep_pixels(
    image: NDArray[np.uint8], original: NDArray[np.uint8], opacity: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """`image` where `opacity` (height, width) is 1, `original` where it is 0, both unchanged; between them mixed.

    Both are (height, width, 3). A mixed value is rounded once.
    """
    finished = np.where(opacity[..., None] > 0, image, original)
    mixed = np.nonzero((opacity > 0) & (opacity < 1))
    old, new = original[mixed].astype(np.float32), image[mixed].astype(np.float32)
    finished[mixed] = np.rint(old + opacity[mixed][:, None] * (new - old))
    return finished
