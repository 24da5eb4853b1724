"""What the headers of a checkpoint's weights tell, without reading the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from services.generator.engine import CheckpointError
from services.generator.sdxl.loading.checkpoints import Checkpoint

_FIRST, _LAST = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight"


def check_channels(checkpoint: Checkpoint, unet: dict[str, Any]) -> None:
    """Refuse a UNet that wants more than latents, such as a mask and a masked picture. Raises CheckpointError.

    `unet` is its configuration; where there is none, of a single file alone, its first and last layer tell.
    """
    taken, made = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if not unet and checkpoint.path.is_file():
        shapes = _shapes(checkpoint.path)
        if _FIRST in shapes and _LAST in shapes:
            taken, made = shapes[_FIRST][1], shapes[_LAST][0]
    if taken != made:
        raise CheckpointError(
            f"{checkpoint.path}: its UNet takes {taken} channels, but latents have {made}: it was made for inpainting "
            "or editing alone; any ordinary checkpoint inpaints"
        )


def _shapes(file: Path) -> dict[str, Sequence[int]]:
    """The shapes of the weights in a .safetensors file, by name."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: {error}") from error
