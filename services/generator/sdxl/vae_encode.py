"""Pixels to latents, for initial images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.generator.sdxl.device_sync import to_device

Tensor = torch.Tensor


class VaeEncoder:
    """The encoder of the VAE of one pipeline."""

    def __init__(self, vae: Any) -> None:
        """Use `vae` (AutoencoderKL, or one without a posterior such as AutoencoderDC) on its device."""
        self._vae = vae

    @torch.no_grad()
    def encode(self, pixels: NDArray[np.uint8], generator: torch.Generator, *, in_tiles: bool = False) -> Tensor:
        """Latents (channels, h, w), float32 and scaled for the UNet, of an image (height, width, 3).

        A posterior is sampled with `generator`, a CPU generator. `in_tiles` needs less memory for large images.
        """
        self._vae.use_tiling = in_tiles
        image = to_device(torch.from_numpy(pixels), self._vae.device).permute(2, 0, 1)[None]
        encoded = self._vae.encode((image.float() / 255 * 2 - 1).to(self._vae.dtype))
        if hasattr(encoded, "latent_dist"):
            mean, deviation = encoded.latent_dist.mean.float(), encoded.latent_dist.std.float()
            # Drawn on the CPU in float32, as all noise: a seed gives the same noise on every device.
            latents = mean + deviation * to_device(torch.randn(mean.shape, generator=generator), mean.device)
        else:
            latents = encoded.latent.float()
        return self._scale(latents)[0]

    def _scale(self, latents: Tensor) -> Tensor:
        config = self._vae.config
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean = torch.tensor(config.latents_mean, device=latents.device).view(1, -1, 1, 1)
            std = torch.tensor(config.latents_std, device=latents.device).view(1, -1, 1, 1)
            latents = (latents - mean) / std
        scaled: Tensor = latents * config.scaling_factor
        return scaled
