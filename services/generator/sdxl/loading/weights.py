"""Checks of the headers of safetensors files, without reading the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from services.generator.engine import CheckpointError
from services.generator.sdxl.loading.checkpoints import Checkpoint

_FIRST, _LAST = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight"


def check_channels(checkpoint: Checkpoint, unet: dict[str, Any]) -> None:
    """Raises CheckpointError for a UNet with inputs besides the latents, such as a mask and a masked image.

    `unet` is its configuration; a single file without one is judged by its first and last layer.
    """
    taken, made = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if not unet and checkpoint.path.is_file():
        shapes = _shapes(checkpoint.path)
        if _FIRST in shapes and _LAST in shapes:
            taken, made = shapes[_FIRST][1], shapes[_LAST][0]
    if taken != made:
        raise CheckpointError(
            f"{checkpoint.path}: its UNet has {taken} input channels, but latents have {made}: it is for inpainting or "
            "editing only; an ordinary checkpoint can inpaint too"
        )


def _shapes(file: Path) -> dict[str, Sequence[int]]:
    """The shapes of the weights in a .safetensors file, by name."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: {error}") from error
