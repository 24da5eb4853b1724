"""Previews by a tiny decoder: a small network that approximates the VAE decoder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from services.generator.engine import CheckpointError
from services.generator.sdxl.loading.checkpoints import read_json

Tensor = torch.Tensor

MAX_SIDE = 256
"""Longest side of a preview, in pixels."""

_SETTING = "GENERATOR_PREVIEW_DECODER"
_FIRST_LAYER = "decoder.layers.0.weight"


class TinyDecoder:
    """The decoder of an AutoencoderTiny."""

    def __init__(self, path: Path, device: str, dtype: torch.dtype) -> None:
        """Load it from a diffusers folder or a .safetensors file. Raises CheckpointError."""
        try:
            model = _load_folder(path) if path.is_dir() else _load_file(path)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{_SETTING}: {path}: {error}") from error
        self.latent_channels: int = model.config.latent_channels
        self._model = model.requires_grad_(False).eval().to(device, dtype)

    def check_fits(self, name: str, latent_channels: int) -> None:
        """Raises CheckpointError unless it decodes latents of `latent_channels` channels, those of the model `name`."""
        if self.latent_channels != latent_channels:
            raise CheckpointError(
                f"{_SETTING}: it decodes latents of {self.latent_channels} channels; those of {name} have "
                f"{latent_channels}"
            )

    @torch.no_grad()
    def preview(self, clean: Tensor) -> NDArray[np.uint8]:
        """An image (height, width, 3), at most MAX_SIDE long, of latents (channels, h, w)."""
        image = self._model.decode(clean[None].to(self._model.dtype), return_dict=False)[0].float()
        shrink = -(-max(image.shape[-2:]) // MAX_SIDE)
        small = torch.nn.functional.avg_pool2d(image, shrink)[0].permute(1, 2, 0)
        return (small / 2 + 0.5).nan_to_num(0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def _load_folder(folder: Path) -> Any:
    _check_class(folder / "config.json")
    model, report = AutoencoderTiny.from_pretrained(
        str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if report["missing_keys"]:
        raise ValueError(f"its weights lack {sorted(report['missing_keys'])[0]}")
    return model


def _load_file(file: Path) -> Any:
    """Weights alone: the config.json beside them describes them; without one, their first layer tells the channels."""
    if file.suffix != ".safetensors":
        raise ValueError("neither a folder nor a .safetensors file")
    weights = load_file(file)
    if _FIRST_LAYER not in weights:
        raise ValueError(f"it has no {_FIRST_LAYER}: no AutoencoderTiny as diffusers saves it")
    beside = file.with_name("config.json")
    if beside.is_file():
        _check_class(beside)
        model = AutoencoderTiny.from_config(read_json(beside))
    else:
        model = AutoencoderTiny(latent_channels=weights[_FIRST_LAYER].shape[1])
    model.load_state_dict(weights)
    return model


def _check_class(config: Path) -> None:
    kind = read_json(config).get("_class_name")
    if kind != "AutoencoderTiny":
        raise ValueError(f"an AutoencoderTiny is needed, not {kind!r}")
