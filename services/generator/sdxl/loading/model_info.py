"""What a checkpoint can do, as GetCapabilities tells it: from its frontispiece.json, else from what it is.

Everything is read from the small JSON files of the checkpoint; its weights need not be in memory.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.generator.engine import CheckpointError
from services.generator.models import FloatRange, IntegerRange, ModelInfo
from services.generator.sdxl import lora, schedulers
from services.generator.sdxl.loading import weights
from services.generator.sdxl.loading.checkpoints import Checkpoint, read_json

MAX_PIXELS = 1_600_000
_PIXEL_STEP = 8
_MIN_SIZE, _MAX_SIZE = 256, 1536
_MAX_STEPS = 80
_MAX_GUIDANCE = 30.0
_MAX_PROMPT_LENGTH = 2000


@dataclass(frozen=True)
class Kind:
    """A family of checkpoints that want other defaults than SDXL itself."""

    name: str
    defaults: dict[str, Any]
    scheduler_config: dict[str, Any] = field(default_factory=dict)


_FULL = "Stable Diffusion XL"
_TRAILING = {"timestep_spacing": "trailing"}


@dataclass(frozen=True)
class Entry:
    """A checkpoint, what it can do, what to change in its scheduler's config, and the name of its kind."""

    checkpoint: Checkpoint
    info: ModelInfo
    scheduler_config: dict[str, Any]
    family: str


def describe(checkpoint: Checkpoint, loras_dir: Path | None) -> Entry:
    """The catalogue's entry.

    Raises CheckpointError when the frontispiece.json makes no sense, or the UNet wants more than latents.
    """
    unet = _component(checkpoint, "unet/config.json")
    weights.check_channels(checkpoint, unet)
    scheduler = _component(checkpoint, "scheduler/scheduler_config.json")
    levels = len(_component(checkpoint, "vae/config.json").get("block_out_channels", range(4)))
    kind = recognise(checkpoint, unet, scheduler)
    native = int(unet.get("sample_size", 128)) * 2 ** (levels - 1)
    given = {**kind.defaults, **checkpoint.about.get("defaults", {})}
    limits = checkpoint.about.get("limits", {})
    try:
        width = _pixels(limits.get("min_width"), limits.get("max_width"), given.get("width", native))
        height = _pixels(limits.get("min_height"), limits.get("max_height"), given.get("height", native))
        wanted = given.get("scheduler")
        info = ModelInfo(
            id=checkpoint.name,
            revision=checkpoint.revision,
            description=str(checkpoint.about.get("description", f"{checkpoint.name}: {kind.name}.")),
            example_prompts=tuple(map(str, checkpoint.about.get("example_prompts", ()))),
            schedulers=_schedulers(str(wanted) if wanted else schedulers.name_of(scheduler)),
            max_prompt_length=_MAX_PROMPT_LENGTH,
            width=width,
            height=height,
            max_pixels=min(MAX_PIXELS, width.max * height.max),
            num_inference_steps=IntegerRange(1, _MAX_STEPS, 1, int(given["num_inference_steps"])),
            guidance_scale=FloatRange(0.0, _MAX_GUIDANCE, 0.5, float(given["guidance_scale"])),
            loras=lora.list_names(loras_dir),
            initial_images=True,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}/frontispiece.json: {error}") from error
    return Entry(checkpoint, info, kind.scheduler_config, kind.name)


def can_refine(refiner: Entry, entry: Entry) -> bool:
    """Whether the refiner can go on from what the model leaves: the same kind of latents, removed in many steps."""
    return entry.family == _FULL and share_latents(refiner, entry)


def share_latents(one: Entry, other: Entry) -> bool:
    """Whether what one model paints the other's decoder can show."""
    return _latents(one.checkpoint) == _latents(other.checkpoint)


def latent_channels(entry: Entry) -> int:
    """How many channels the model's latents have."""
    return int(_latents(entry.checkpoint)[0])


def _latents(checkpoint: Checkpoint) -> tuple[Any, ...]:
    vae = _component(checkpoint, "vae/config.json")
    return vae.get("latent_channels", 4), vae.get("scaling_factor", 0.13025), len(vae.get("block_out_channels", "1234"))


def recognise(checkpoint: Checkpoint, unet: dict[str, Any], scheduler: dict[str, Any]) -> Kind:
    """What family a checkpoint belongs to, from its configuration, else from its name.

    Few-step checkpoints look like any SDXL but give grey mush with SDXL's own 30 steps and guidance.
    """
    name = checkpoint.name.lower()
    steps = re.search(r"(\d+)[-_ ]?steps?", name)
    count = int(steps.group(1)) if steps else 4
    if unet.get("time_cond_proj_dim"):
        return Kind("LCM distilled from Stable Diffusion XL", _few(4, 8.0, "lcm"))
    if "lcm" in name or scheduler.get("_class_name") == "LCMScheduler":
        return Kind("LCM distilled from Stable Diffusion XL", _few(count, 1.0, "lcm"))
    if "lightning" in name:
        return Kind("SDXL-Lightning", _few(count, 0.0, "euler"), _TRAILING)
    if "hyper" in name:
        return Kind("Hyper-SDXL", _few(count, 0.0, "ddim"), _TRAILING)
    if "turbo" in name:
        return Kind("SDXL-Turbo", {**_few(count, 0.0, "euler_ancestral"), "width": 512, "height": 512}, _TRAILING)
    return Kind(_FULL, {"num_inference_steps": 30, "guidance_scale": 5.0})


def _few(steps: int, guidance: float, scheduler: str) -> dict[str, Any]:
    return {"num_inference_steps": steps, "guidance_scale": guidance, "scheduler": scheduler}


def _component(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """A component's configuration; empty for a single file alone, which is taken for SDXL as it was published."""
    return read_json(checkpoint.configuration / name) if checkpoint.configuration is not None else {}


def _pixels(low: Any, high: Any, default: Any) -> IntegerRange:
    low, high, default = int(low or _MIN_SIZE), int(high or _MAX_SIZE), int(default)
    low, high = min(low, default), max(high, default)
    if any(value % _PIXEL_STEP for value in (low, high, default)) or low <= 0:
        raise ValueError(f"sizes must be multiples of {_PIXEL_STEP}")
    return IntegerRange(low, high, _PIXEL_STEP, default)


def _schedulers(wanted: str) -> tuple[str, ...]:
    first = schedulers.canonical_name(wanted)
    if first is None:
        raise ValueError(f"no scheduler is called {wanted!r}; there are {', '.join(schedulers.NAMES)}")
    return (first, *(name for name in schedulers.NAMES if name != first))
