"""What a checkpoint can do, as GetCapabilities tells it: from its frontispiece.json, else from what it is."""

from typing import Any

from services.generator.engines import schedulers
from services.generator.engines.base import CheckpointError
from services.generator.engines.checkpoints import Checkpoint
from services.generator.models import FloatRange, IntegerRange, ModelInfo

MAX_PIXELS = 1_600_000
_PIXEL_STEP = 8
_PIXELS_MIN, _PIXELS_MAX = 256, 1536
_MAX_STEPS = 80
_MAX_GUIDANCE = 30.0
_MAX_PROMPT_LENGTH = 2000


def describe(checkpoint: Checkpoint, pipeline: Any) -> ModelInfo:
    """The model's entry in the capabilities. Raises CheckpointError when its frontispiece.json makes no sense."""
    defaults = checkpoint.about.get("defaults", {})
    limits = checkpoint.about.get("limits", {})
    native = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    try:
        width = _pixels(limits.get("min_width"), limits.get("max_width"), defaults.get("width", native))
        height = _pixels(limits.get("min_height"), limits.get("max_height"), defaults.get("height", native))
        return ModelInfo(
            id=checkpoint.name,
            revision=checkpoint.revision,
            description=str(checkpoint.about.get("description", f"{checkpoint.name} (Stable Diffusion XL)")),
            example_prompts=tuple(map(str, checkpoint.about.get("example_prompts", ()))),
            schedulers=_schedulers(defaults.get("scheduler"), pipeline.scheduler),
            max_prompt_length=_MAX_PROMPT_LENGTH,
            width=width,
            height=height,
            max_pixels=min(MAX_PIXELS, width.max * height.max),
            num_inference_steps=IntegerRange(1, _MAX_STEPS, 1, int(defaults.get("num_inference_steps", 30))),
            guidance_scale=FloatRange(0.0, _MAX_GUIDANCE, 0.5, float(defaults.get("guidance_scale", 5.0))),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}/frontispiece.json: {error}") from error


def _pixels(low: Any, high: Any, default: Any) -> IntegerRange:
    low, high, default = int(low or _PIXELS_MIN), int(high or _PIXELS_MAX), int(default)
    low, high = min(low, default), max(high, default)
    if any(value % _PIXEL_STEP for value in (low, high, default)) or low <= 0:
        raise ValueError(f"sizes must be multiples of {_PIXEL_STEP}")
    return IntegerRange(low, high, _PIXEL_STEP, default)


def _schedulers(wanted: str | None, own: Any) -> tuple[str, ...]:
    first = schedulers.canonical_name(wanted) if wanted else schedulers.name_of(own)
    if first is None:
        raise ValueError(f"no scheduler is called {wanted!r}; there are {', '.join(schedulers.NAMES)}")
    return (first, *(name for name in schedulers.NAMES if name != first))
