"""The latent space: a linear projection of each 16-pixel cell onto its principal components.

Flat drawings lose little to it (16 numbers a cell keep over 99 % of the variance), it needs no training, and the
UNet can start before any decoder exists. `write` puts the projection into an `AutoencoderDC`, whose shortcuts average,
unshuffle and shuffle pixels by themselves: the encoder is then exact, and the decoder starts from the inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 16
CELL_PX = 16
_POOL = 4
_LARGE = 64.0


@dataclass(frozen=True)
class Projection:
    """Rows of `matrix` (16, 48) turn a cell's 4×4 averaged pixels, colour by colour, less `mean` (48), into latents."""

    matrix: Tensor
    mean: Tensor

    def encode(self, image: Tensor) -> Tensor:
        """Images (batch, 3, height, width) in -1 to 1 as latents (batch, 16, height / 16, width / 16)."""
        cells = F.pixel_unshuffle(F.avg_pool2d(image, _POOL), CELL_PX // _POOL)
        return F.conv2d(cells - self.mean.view(1, -1, 1, 1), self.matrix[:, :, None, None])

    def to(self, device: torch.device) -> Projection:
        """The same projection on another device."""
        return Projection(self.matrix.to(device), self.mean.to(device))


def fit(images: Tensor) -> Projection:
    """Principal components of the cells of `images`, scaled so that strong components stay stronger than weak ones.

    Dividing by the square root of each deviation is half of whitening: noise then hides detail first and layout last,
    which is the order in which the UNet should decide them. The mean variance over channels is one.
    """
    cells = F.pixel_unshuffle(F.avg_pool2d(images, _POOL), CELL_PX // _POOL)
    flat = cells.permute(0, 2, 3, 1).reshape(-1, cells.shape[1])
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    deviation = values.flip(0)[:CHANNELS].sqrt()
    rows = vectors.flip(1)[:, :CHANNELS].T
    rows = rows * torch.where(rows.sum(1, keepdim=True) < 0, -1.0, 1.0)
    return Projection(rows / (deviation.sqrt() * deviation.mean().sqrt())[:, None], mean)


@torch.no_grad()
def write(vae: Any, projection: Projection) -> None:
    """Set the encoder to `projection.encode`, and the decoder to its pseudo-inverse shown in blocks of 4×4 pixels.

    The encoder is done with that. The decoder's other channels and its residual blocks keep their random weights, which
    start almost silent; training teaches them the edges.
    """
    _write_encoder(vae.encoder, projection)
    _write_decoder(vae.decoder, projection)


def _write_encoder(encoder: Any, projection: Projection) -> None:
    """With all convolutions silent the shortcuts average 2×2 pixels twice, then gather 2×2 twice."""
    for parameter in encoder.parameters():
        parameter.zero_()
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1
    for source in range(3 * _POOL * _POOL):
        colour, y, x = _pixel(source)
        gathered = colour * 16 + (y % 2) * 8 + (x % 2) * 4 + (y // 2) * 2 + x // 2
        encoder.conv_out.weight[:, gathered, 1, 1] = projection.matrix[:, source]
    encoder.conv_out.bias.copy_(-projection.matrix @ projection.mean)


def _write_decoder(decoder: Any, projection: Projection) -> None:
    """Unfold each cell to 4×4 colours on reserved channels; keep them linear through the last norm and activation.

    A large constant beside them makes the norm a division by a constant, and relu(z) - relu(-z) = z.
    """
    pixels = range(3 * _POOL * _POOL)
    decoder.conv_in.weight[: len(pixels)] = 0
    decoder.conv_in.weight[: len(pixels), :, 1, 1] = torch.linalg.pinv(projection.matrix)
    decoder.conv_in.bias[: len(pixels)] = projection.mean
    halves, quarters, doubled = (decoder.up_blocks[level][0] for level in (3, 2, 1))
    for source in pixels:
        colour, y, x = _pixel(source)
        _carry(halves, source, colour * 4 + (y % 2) * 2 + x % 2, y // 2, x // 2)
    for source in range(12):
        _carry(quarters, source, source // 4, source // 2 % 2, source % 2)
    for target in range(6):
        for phase in range(4):
            _carry(doubled, target % 3, target, phase // 2, phase % 2, 1.0 if target < 3 else -1.0)
    for phase in range(4):
        _carry(doubled, 0, 6, phase // 2, phase % 2, 0.0)
        doubled.conv.bias[6 * 4 + phase] = _LARGE
    for reserved, level in ((48, 4), (12, 3), (3, 2), (7, 1)):
        for block in decoder.up_blocks[level]:
            if hasattr(block, "norm"):
                block.norm.weight.fill_(0.2)
                block.norm.weight[:reserved] = 0
    decoder.norm_out.weight[:6] = _LARGE / decoder.norm_out.weight.numel() ** 0.5
    decoder.conv_out.conv.weight *= 0.02
    decoder.conv_out.conv.bias.zero_()
    decoder.conv_out.conv.weight[:, :7] = 0
    for target in range(12):
        decoder.conv_out.conv.weight[target, target // 4, 1, 1] = 1
        decoder.conv_out.conv.weight[target, target // 4 + 3, 1, 1] = -1


def _pixel(source: int) -> tuple[int, int, int]:
    """Colour, row and column of a cell's pixel in the order of `pixel_unshuffle`."""
    return source // 16, source // 4 % 4, source % 4


def _carry(up: Any, source: int, target: int, row: int, column: int, factor: float = 1.0) -> None:
    """Make channel `target` at this phase of an upsampling block `factor` times channel `source`, shortcut included."""
    channel = target * 4 + row * 2 + column
    up.conv.weight[channel] = 0
    up.conv.bias[channel] = 0
    up.conv.weight[channel, channel // up.repeats, 1, 1] -= 1
    up.conv.weight[channel, source, 1, 1] += factor
