"""Latents to pixels: the VAE decoder for images; for previews a small matrix, or a tiny decoder if there is one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator.engine import InvalidImage
from services.generator.sdxl.previews import TinyDecoder

Tensor = torch.Tensor
Pixels = NDArray[np.uint8]

_FITTED_LATENTS = 8
_FITTED_SIZE = 16


class VaeDecoder:
    """The decoder of the VAE of one pipeline."""

    def __init__(self, vae: Any, tiny: TinyDecoder | None = None) -> None:
        """Use `vae` (AutoencoderKL or similar) on its device, and for previews `tiny`."""
        self._vae = vae
        self._tiny = tiny
        self._preview_matrix: Tensor | None = None

    @torch.no_grad()
    def decode(self, latents: Tensor, *, in_tiles: bool = False) -> list[Pixels | InvalidImage]:
        """Images of latents (n, 4, h, w), each (8h, 8w, 3), or InvalidImage.

        `in_tiles` needs less memory for large images; seams may be visible.
        """
        self._vae.use_tiling = in_tiles
        images = self._decode(latents)
        flat = images.flatten(1)
        finite = torch.isfinite(flat).all(dim=1)
        # Converted on the device: a quarter of the bytes are copied, and the CPU does nothing.
        pixels = (images.nan_to_num(0) / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        varied = (pixels.amin(dim=(1, 2)) != pixels.amax(dim=(1, 2))).any(dim=1)
        array = pixels.contiguous().cpu().numpy()
        verdicts = zip(finite.tolist(), varied.tolist(), strict=True)
        return [_judge(array[i], is_finite, is_varied) for i, (is_finite, is_varied) in enumerate(verdicts)]

    @torch.no_grad()
    def preview(self, clean: Tensor) -> Pixels:
        """A preview of latents (4, h, w): (h, w, 3), or larger from a tiny decoder."""
        if self._tiny is not None:
            return self._tiny.preview(clean)
        if self._preview_matrix is None:
            self._preview_matrix = self._fit_preview()
        features = torch.cat([clean, torch.ones_like(clean[:1])])
        colours = torch.einsum("chw,cr->hwr", features, self._preview_matrix)
        return (colours / 2 + 0.5).nan_to_num(0).clamp(0, 1).mul(255).to(torch.uint8).cpu().numpy()

    def _decode(self, latents: Tensor) -> Tensor:
        config = self._vae.config
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean = torch.tensor(config.latents_mean, device=latents.device).view(1, -1, 1, 1)
            std = torch.tensor(config.latents_std, device=latents.device).view(1, -1, 1, 1)
            latents = latents * std / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor
        images: Tensor = self._vae.decode(latents.to(self._vae.dtype), return_dict=False)[0]
        return images.float()

    def _fit_preview(self) -> Tensor:
        """The matrix (channels + 1, 3) from latents, and 1, to colours: a least-squares fit to this VAE."""
        parameter = next(self._vae.parameters())
        generator = torch.Generator().manual_seed(0)
        channels = self._vae.config.latent_channels
        shape = (_FITTED_LATENTS, channels, _FITTED_SIZE // 4, _FITTED_SIZE // 4)
        patches = torch.randn(shape, generator=generator)
        latents = torch.nn.functional.interpolate(patches, size=(_FITTED_SIZE, _FITTED_SIZE), mode="nearest")
        images = self._decode(latents.to(parameter.device)).cpu()
        colours = torch.nn.functional.adaptive_avg_pool2d(images, (_FITTED_SIZE, _FITTED_SIZE))
        features = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)
        features = features.permute(0, 2, 3, 1).reshape(-1, channels + 1)
        solution = torch.linalg.lstsq(features, colours.permute(0, 2, 3, 1).reshape(-1, 3)).solution
        matrix: Tensor = solution.to(parameter.device)
        return matrix


def _judge(pixels: Pixels, is_finite: bool, is_varied: bool) -> Pixels | InvalidImage:
    if not is_finite:
        return InvalidImage("its values are not finite")
    if not is_varied:
        return InvalidImage("it has only one colour")
    return pixels


def stack_latents(latents: Sequence[Tensor]) -> Tensor:
    """Latents (4, h, w) of several images as one batch."""
    return torch.stack(list(latents))
