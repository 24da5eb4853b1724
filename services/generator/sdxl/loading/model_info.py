"""What a checkpoint can do, for GetCapabilities: from its frontispiece.json, otherwise from its configuration.

Only the small JSON files of the checkpoint are read; its weights need not be in memory.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from frontispiece.types.v1.generation_pb2 import GenerationParameters, Lora

from rpc.errors import InvalidArgument
from rpc.validation import check, limits, number_problem
from services.generator import scheduler_names
from services.generator.engine import CheckpointError
from services.generator.models import FloatRange, IntegerRange, ModelInfo
from services.generator.sdxl import lora, schedulers
from services.generator.sdxl.loading import weights
from services.generator.sdxl.loading.checkpoints import Checkpoint, read_json

MAX_PIXELS = 1_600_000
_MIN_SIZE, _MAX_SIZE = 256, 1536
_GUIDANCE_STEP = 0.5


@dataclass(frozen=True)
class Kind:
    """A family of checkpoints with other defaults than SDXL itself."""

    name: str
    defaults: dict[str, Any]
    scheduler_config: dict[str, Any] = field(default_factory=dict)


NumberT = TypeVar("NumberT", int, float)

_FULL = "Stable Diffusion XL"
_TRAILING = {"timestep_spacing": "trailing"}


@dataclass(frozen=True)
class Entry:
    """A checkpoint, its description, changes to the configuration of its scheduler, and the name of its family."""

    checkpoint: Checkpoint
    info: ModelInfo
    scheduler_config: dict[str, Any]
    family: str


def describe(checkpoint: Checkpoint, loras_dir: Path | None) -> Entry:
    """The entry of the registry, every range within the limits of GenerationParameters.

    Raises CheckpointError when the frontispiece.json is invalid, or the UNet needs more than latents.
    """
    unet = _component(checkpoint, "unet/config.json")
    weights.check_channels(checkpoint, unet)
    scheduler = _component(checkpoint, "scheduler/scheduler_config.json")
    levels = len(_component(checkpoint, "vae/config.json").get("block_out_channels", range(4)))
    kind = recognise(checkpoint, unet, scheduler)
    native = int(unet.get("sample_size", 128)) * 2 ** (levels - 1)
    given = {**kind.defaults, **checkpoint.about.get("defaults", {})}
    about = checkpoint.about.get("limits", {})
    try:
        width = _pixels("width", about.get("min_width"), about.get("max_width"), given.get("width", native))
        height = _pixels("height", about.get("min_height"), about.get("max_height"), given.get("height", native))
        preferred = given.get("scheduler")
        info = ModelInfo(
            id=_checked_id(checkpoint.name),
            revision=checkpoint.revision,
            description=str(checkpoint.about.get("description", f"{checkpoint.name}: {kind.name}.")),
            example_prompts=tuple(map(str, checkpoint.about.get("example_prompts", ()))),
            schedulers=_schedulers(str(preferred) if preferred else schedulers.name_of(scheduler)),
            max_prompt_length=limits(GenerationParameters, "prompt").max_length,
            width=width,
            height=height,
            max_pixels=min(MAX_PIXELS, width.max * height.max),
            num_inference_steps=_steps(int(given["num_inference_steps"])),
            guidance_scale=_guidance(float(given["guidance_scale"])),
            loras=tuple(name for name in lora.list_names(loras_dir) if _is_nameable(name)),
            initial_images=True,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}/frontispiece.json: {error}") from error
    return Entry(checkpoint, info, kind.scheduler_config, kind.name)


def can_refine(refiner: Entry, entry: Entry) -> bool:
    """Whether the refiner can continue the steps of the model: the same kind of latents, and a model of many steps."""
    return entry.family == _FULL and share_latents(refiner, entry)


def share_latents(one: Entry, other: Entry) -> bool:
    """Whether the decoder of one model can decode the latents of the other."""
    return _latents(one.checkpoint) == _latents(other.checkpoint)


def latent_channels(entry: Entry) -> int:
    """The number of channels of the latents of the model."""
    return int(_latents(entry.checkpoint)[0])


def _latents(checkpoint: Checkpoint) -> tuple[Any, ...]:
    vae = _component(checkpoint, "vae/config.json")
    return vae.get("latent_channels", 4), vae.get("scaling_factor", 0.13025), len(vae.get("block_out_channels", "1234"))


def recognise(checkpoint: Checkpoint, unet: dict[str, Any], scheduler: dict[str, Any]) -> Kind:
    """The family of a checkpoint, from its configuration, otherwise from its name.

    Few-step checkpoints have the configuration of SDXL, but with its 30 steps and guidance their images are grey.
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
    """The configuration of a component; empty for a single file without a folder, which is read as SDXL."""
    return read_json(checkpoint.configuration / name) if checkpoint.configuration is not None else {}


def _pixels(name: str, low: Any, high: Any, default: Any) -> IntegerRange:
    """The sizes from `low` to `high`, and `default`, as far as the contract allows them."""
    allowed = limits(GenerationParameters, name)
    low, high, default = int(low or _MIN_SIZE), int(high or _MAX_SIZE), _checked_default(name, int(default))
    low, high = max(min(low, default), int(allowed.min)), min(max(high, default), int(allowed.max))
    if low % allowed.multiple_of or high % allowed.multiple_of:
        raise ValueError(f"sizes must be multiples of {allowed.multiple_of}")
    return IntegerRange(low, high, allowed.multiple_of, default)


def _steps(default: int) -> IntegerRange:
    allowed = limits(GenerationParameters, "num_inference_steps")
    return IntegerRange(int(allowed.min), int(allowed.max), 1, _checked_default("num_inference_steps", default))


def _guidance(default: float) -> FloatRange:
    allowed = limits(GenerationParameters, "guidance_scale")
    return FloatRange(allowed.min, allowed.max, _GUIDANCE_STEP, _checked_default("guidance_scale", default))


def _checked_default(name: str, default: NumberT) -> NumberT:
    """`default`. Raises ValueError if the contract does not accept it."""
    if problem := number_problem(default, limits(GenerationParameters, name)):
        raise ValueError(f"the default of {name} {problem}")
    return default


def _checked_id(name: str) -> str:
    parameters = GenerationParameters(prompt="a prompt", model=name)
    try:
        check(parameters)
    except InvalidArgument as error:
        raise ValueError(f"the name {name!r} cannot be used in a request: {error}") from None
    return parameters.model


def _is_nameable(lora_name: str) -> bool:
    """Whether a request can name this LoRA: the server normalises text, and limits its length."""
    message = Lora(name=lora_name)
    try:
        check(message)
    except InvalidArgument:
        return False
    return message.name == lora_name


def _schedulers(preferred: str) -> tuple[str, ...]:
    first = scheduler_names.canonical(preferred, schedulers.NAMES)
    if first is None:
        raise ValueError(f"there is no scheduler {preferred!r}; choose from {', '.join(schedulers.NAMES)}")
    return (first, *(name for name in schedulers.NAMES if name != first))
