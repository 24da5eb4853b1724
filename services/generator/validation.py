"""The rules of the models: which parameters a model accepts, and what an unset parameter means.

The limits that hold for every model are options in types/v1/generation.proto; the server checks them before a handler
is called. Here stands what depends on the models of this generator. Generate and ValidateParameters use the same
function.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from frontispiece.types.v1 import generation_pb2 as types
from frontispiece.types.v1.limits_pb2 import Limits
from google.protobuf.descriptor import FieldDescriptor

from rpc.errors import FieldViolation, InvalidArgument
from rpc.validation import limits, number_problem
from services.generator.models import FloatRange, ImageRequest, IntegerRange, Lora, ModelInfo
from services.generator.scheduler_names import canonical

Parameters = types.GenerationParameters
Problem = tuple[str, str]
"""The name of a parameter, and what is wrong with it."""

Inspect = Callable[[ImageRequest], Sequence[Problem]]
"""Checks a request against a model in memory. Returns no problem for a model that is not in memory."""

_ROOT = "parameters"


def resolve(parameters: Parameters, models: Sequence[ModelInfo], *, inspect: Inspect | None = None) -> ImageRequest:
    """The request that these parameters ask for, with every default filled in.

    Raises InvalidArgument that names every wrong field: "parameters.width". The result has no `initial_image`: to
    decode it takes long, and is done in images/initial_image.py.
    """
    model = _find_model(parameters.model, models)
    problems = list(_problems(parameters, model))
    if problems:
        raise refusal(problems)
    request = ImageRequest(
        model=model.id,
        prompt=parameters.prompt,
        negative_prompt=parameters.negative_prompt,
        width=value_of(parameters, "width", model),
        height=value_of(parameters, "height", model),
        num_inference_steps=value_of(parameters, "num_inference_steps", model),
        guidance_scale=value_of(parameters, "guidance_scale", model),
        seed=parameters.seed if parameters.HasField("seed") else random_seed(),
        scheduler=canonical(parameters.scheduler, model.schedulers) or model.schedulers[0],
        # Sorted, so that requests that name the same LoRAs in another order still share steps.
        loras=tuple(sorted((_lora(lora) for lora in parameters.loras), key=lambda lora: lora.name)),
        guidance_end=value_of(parameters, "guidance_end"),
        denoising_end=parameters.denoising_end if parameters.HasField("denoising_end") else None,
        refiner=model.refiner if parameters.HasField("denoising_end") else "",
        clip_skip=parameters.clip_skip,
    )
    if inspect and not is_stock(parameters) and (problems := list(inspect(request))):
        raise refusal(problems)
    return request


def is_stock(parameters: Parameters) -> bool:
    """Whether the parameters ask for a stock photo."""
    return parameters.source == types.IMAGE_SOURCE_STOCK


def value_of(message: Any, name: str, model: ModelInfo | None = None) -> Any:
    """The value of an optional number; if it is not set, the default of the model, else that of the contract."""
    if message.HasField(name):
        return getattr(message, name)
    allowed: IntegerRange | FloatRange | None = getattr(model, name, None)
    if allowed is not None:
        return allowed.default
    default = limits(type(message), name).default
    is_real = message.DESCRIPTOR.fields_by_name[name].cpp_type == FieldDescriptor.CPPTYPE_DOUBLE
    return default if is_real else int(default)


def random_seed() -> int:
    """A seed that the contract accepts."""
    return secrets.randbelow(int(limits(Parameters, "seed").max) + 1)


def used_initial_image(initial: types.InitialImage) -> types.InitialImage:
    """The initial image with every default filled in and without the mask.

    With a mask the default of `strength` is the largest value: the marked part is replaced altogether.
    """
    used = types.InitialImage(key=initial.key, strength=value_of(initial, "strength"), has_mask=bool(initial.mask))
    if initial.mask:
        used.mask_feather = value_of(initial, "mask_feather")
        if not initial.HasField("strength"):
            used.strength = limits(types.InitialImage, "strength").max
    return used


def _find_model(name: str, models: Sequence[ModelInfo]) -> ModelInfo:
    """The model with this id; the first for ""."""
    for model in models:
        if name in ("", model.id):
            return model
    raise refusal([("model", f"must be one of {', '.join(model.id for model in models)}")])


def refusal(problems: Sequence[Problem]) -> InvalidArgument:
    """The error that names each parameter in the request."""
    return InvalidArgument.fields([FieldViolation(f"{_ROOT}.{name}", problem) for name, problem in problems])


def _problems(parameters: Parameters, model: ModelInfo) -> Iterator[Problem]:
    for name in ("prompt", "negative_prompt"):
        if len(getattr(parameters, name)) > model.max_prompt_length:
            yield name, f"must have at most {model.max_prompt_length} characters for {model.id}"
    yield from _number_problems(parameters, model)
    if parameters.scheduler and canonical(parameters.scheduler, model.schedulers) is None:
        yield "scheduler", f"must be one of {', '.join(model.schedulers)}"
    if not is_stock(parameters):  # the contract: ignored for a stock photo
        for i, lora in enumerate(parameters.loras):
            if lora.name not in model.loras:
                known = f"must be one of {', '.join(model.loras)}" if model.loras else "the model has no LoRAs"
                yield f"loras[{i}].name", known
    if parameters.HasField("denoising_end"):
        yield from _refiner_problems(parameters, model)
    if parameters.HasField("initial_image"):
        yield from _initial_image_problems(parameters, model)


def _number_problems(parameters: Parameters, model: ModelInfo) -> Iterator[Problem]:
    wrong = False
    for name in ("width", "height", "num_inference_steps", "guidance_scale"):
        if problem := _range_problem(name, getattr(model, name), value_of(parameters, name, model)):
            wrong = True
            yield name, problem
    pixels = value_of(parameters, "width", model) * value_of(parameters, "height", model)
    if pixels > model.max_pixels and not wrong:
        yield "width", f"width × height must be at most {model.max_pixels} pixels; is {pixels}"


def _range_problem(name: str, allowed: IntegerRange | FloatRange, value: float) -> str:
    if allowed.min == allowed.max and value != allowed.min:
        return f"must be {allowed.min}, the only value of this model; is {value}"
    step = allowed.step if isinstance(allowed, IntegerRange) else 0
    unit = limits(Parameters, name).unit
    return number_problem(value, Limits(min=allowed.min, max=allowed.max, multiple_of=step, unit=unit))


def _refiner_problems(parameters: Parameters, model: ModelInfo) -> Iterator[Problem]:
    skipped = 0.0
    if parameters.HasField("initial_image"):
        skipped = 1 - used_initial_image(parameters.initial_image).strength
    if not model.refiner:
        yield "denoising_end", f"must not be set: {model.id} has no refiner"
    elif parameters.denoising_end <= skipped:
        yield "denoising_end", f"must be greater than 1 - initial_image.strength: {model.id} would do no step"


def _initial_image_problems(parameters: Parameters, model: ModelInfo) -> Iterator[Problem]:
    if is_stock(parameters):
        yield "initial_image", "must not be set for a stock photo"
    elif not model.initial_images:
        yield "initial_image", f"must not be set: {model.id} cannot start from an image"
    elif parameters.initial_image.HasField("mask_feather") and not parameters.initial_image.mask:
        yield "initial_image.mask_feather", "must not be set: there is no mask"


def _lora(lora: types.Lora) -> Lora:
    return Lora(lora.name, value_of(lora, "weight"))
