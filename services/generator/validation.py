"""From a request as it came to one that can be painted: defaults filled in, every value inside the model's ranges."""

import math
import secrets
import unicodedata
from collections.abc import Sequence

from rpc.errors import FieldViolation, InvalidArgument
from services.generator.models import (
    MAX_SEED,
    Draft,
    FloatRange,
    ImageRequest,
    InitialImage,
    IntegerRange,
    ModelInfo,
)

MAX_LORAS = 4
MAX_LORA_WEIGHT = 4.0
MAX_PICTURE_BYTES = 16 * 2**20
MAX_MASK_BYTES = 2**20
MAX_MASK_FEATHER = 64
_STRENGTH, _STRENGTH_WITH_MASK = 0.6, 1.0
_MASK_FEATHER = 8


def resolve(draft: Draft, models: Sequence[ModelInfo]) -> ImageRequest:
    """The request to paint. Raises InvalidArgument that names every wrong field at once.

    Its `initial_image` is left out: to read a picture takes long, and is done elsewhere (pictures.py).
    """
    model = find_model(draft.model, models)
    violations = [
        *_check_prompt("prompt", draft.prompt, model.max_prompt_length, required=True),
        *_check_prompt("negative_prompt", draft.negative_prompt, model.max_prompt_length, required=False),
        *_check_integer("width", draft.width, model.width),
        *_check_integer("height", draft.height, model.height),
        *_check_integer("num_inference_steps", draft.num_inference_steps, model.num_inference_steps),
        *_check_float("guidance_scale", draft.guidance_scale, model.guidance_scale),
    ]
    width = model.width.default if draft.width is None else draft.width
    height = model.height.default if draft.height is None else draft.height
    if not violations and width * height > model.max_pixels:
        violations.append(FieldViolation("width", f"width × height must be at most {model.max_pixels} pixels"))
    if draft.seed is not None and not 0 <= draft.seed <= MAX_SEED:
        violations.append(FieldViolation("seed", f"must be from 0 to {MAX_SEED}"))
    if draft.scheduler and draft.scheduler not in model.schedulers:
        violations.append(FieldViolation("scheduler", f"must be one of {', '.join(model.schedulers)}"))
    violations += _check_loras(draft, model)
    if draft.guidance_end is not None and not 0 <= draft.guidance_end <= 1:
        violations.append(FieldViolation("guidance_end", "must be a number from 0 to 1"))
    violations += _check_denoising_end(draft, model)
    violations += _check_initial_image(draft, model)
    if violations:
        raise InvalidArgument.fields(violations)
    steps, guidance = draft.num_inference_steps, draft.guidance_scale
    return ImageRequest(
        model=model.id,
        prompt=unicodedata.normalize("NFC", draft.prompt),
        negative_prompt=unicodedata.normalize("NFC", draft.negative_prompt),
        width=width,
        height=height,
        num_inference_steps=model.num_inference_steps.default if steps is None else steps,
        guidance_scale=model.guidance_scale.default if guidance is None else guidance,
        seed=secrets.randbelow(MAX_SEED + 1) if draft.seed is None else draft.seed,
        scheduler=draft.scheduler or model.schedulers[0],
        preview_interval=draft.preview_interval,
        # In one order, so that the same LoRAs named in another order still share steps.
        loras=tuple(sorted(draft.loras, key=lambda lora: lora.name)),
        guidance_end=1.0 if draft.guidance_end is None else draft.guidance_end,
        refiner="" if draft.denoising_end is None else model.refiner,
        denoising_end=draft.denoising_end,
    )


def find_model(name: str, models: Sequence[ModelInfo]) -> ModelInfo:
    """The model called `name`; the first when `name` is empty. Raises InvalidArgument for any other."""
    for model in models:
        if name in ("", model.id):
            return model
    raise InvalidArgument.field("model", f"must be one of {', '.join(model.id for model in models)}")


def strength_of(initial: InitialImage) -> float:
    """The strength asked for, or the default: a part that is painted anew is painted anew altogether."""
    if initial.strength is not None:
        return initial.strength
    return _STRENGTH_WITH_MASK if initial.mask else _STRENGTH


def mask_feather_of(initial: InitialImage) -> int:
    """The width of the soft border asked for, or the default, in pixels; 0 without a mask."""
    if initial.mask_feather is not None:
        return initial.mask_feather
    return _MASK_FEATHER if initial.mask else 0


def _check_prompt(field: str, text: str, max_length: int, *, required: bool) -> list[FieldViolation]:
    if required and not text.strip():
        return [FieldViolation(field, "must not be empty")]
    if len(unicodedata.normalize("NFC", text)) > max_length:
        return [FieldViolation(field, f"must be at most {max_length} characters")]
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        return [FieldViolation(field, "must not contain control characters")]
    return []


def _check_loras(draft: Draft, model: ModelInfo) -> list[FieldViolation]:
    names = [lora.name for lora in draft.loras]
    if len(names) > MAX_LORAS or len(set(names)) < len(names):
        return [FieldViolation("loras", f"must be at most {MAX_LORAS}, each once")]
    violations = []
    for i, lora in enumerate(draft.loras):
        if lora.name not in model.loras:
            violations.append(FieldViolation(f"loras[{i}].name", f"must be one of {', '.join(model.loras) or 'none'}"))
        if not -MAX_LORA_WEIGHT <= lora.weight <= MAX_LORA_WEIGHT:
            violations.append(
                FieldViolation(f"loras[{i}].weight", f"must be from {-MAX_LORA_WEIGHT:g} to {MAX_LORA_WEIGHT:g}")
            )
    return violations


def _check_denoising_end(draft: Draft, model: ModelInfo) -> list[FieldViolation]:
    if draft.denoising_end is None:
        return []
    if not model.refiner:
        return [FieldViolation("denoising_end", f"must not be set: {model.id} has no refiner")]
    if not 0 < draft.denoising_end < 1:
        return [FieldViolation("denoising_end", "must be a number greater than 0 and less than 1")]
    return []


def _check_initial_image(draft: Draft, model: ModelInfo) -> list[FieldViolation]:
    initial = draft.initial_image
    if initial is None:
        return []
    if draft.stock:
        return [FieldViolation("initial_image", "must not be set for a stock photo")]
    if not model.initial_images:
        return [FieldViolation("initial_image", f"must not be set: {model.id} cannot begin from a picture")]
    violations = []
    if not 0 < len(initial.data) <= MAX_PICTURE_BYTES:
        violations.append(FieldViolation("initial_image.data", f"must be 1 to {MAX_PICTURE_BYTES} bytes"))
    if len(initial.mask) > MAX_MASK_BYTES:
        violations.append(FieldViolation("initial_image.mask", f"must be at most {MAX_MASK_BYTES} bytes"))
    strength = strength_of(initial)
    if not 0 < strength <= 1:
        violations.append(FieldViolation("initial_image.strength", "must be a number greater than 0 and at most 1"))
    elif draft.denoising_end is not None and draft.denoising_end <= 1 - strength:
        why = f"must be greater than 1 - initial_image.strength: {model.id} would do no step"
        violations.append(FieldViolation("denoising_end", why))
    if initial.mask_feather is not None and not initial.mask:
        violations.append(FieldViolation("initial_image.mask_feather", "must not be set: there is no mask"))
    elif mask_feather_of(initial) > MAX_MASK_FEATHER:
        violations.append(FieldViolation("initial_image.mask_feather", f"must be from 0 to {MAX_MASK_FEATHER} pixels"))
    return violations


def _check_integer(field: str, value: int | None, limits: IntegerRange) -> list[FieldViolation]:
    if value is None or (limits.min <= value <= limits.max and (value - limits.min) % limits.step == 0):
        return []
    if limits.min == limits.max:
        return [FieldViolation(field, f"must be {limits.min}: the model paints nothing else")]
    multiple = f" in steps of {limits.step}" if limits.step > 1 else ""
    return [FieldViolation(field, f"must be from {limits.min} to {limits.max}{multiple}")]


def _check_float(field: str, value: float | None, limits: FloatRange) -> list[FieldViolation]:
    if value is None or (math.isfinite(value) and limits.min <= value <= limits.max):
        return []
    return [FieldViolation(field, f"must be a finite number from {limits.min:g} to {limits.max:g}")]
