"""The initial image of a task: its bytes, and the size of the new image where the task gives none."""

import hashlib
import math
from dataclasses import dataclass

from frontispiece.generator.v1.generator_pb2 import IntegerRange, Model
from frontispiece.types.v1.generation_pb2 import GenerationParameters

from rpc import errors
from services.posts.clients.storage import StorageClient
from services.posts.worker import failures
from services.posts.worker.failures import AttemptFailed


@dataclass(frozen=True)
class InitialImage:
    """The encoded bytes of an image, and its size in pixels."""

    data: bytes
    width: int
    height: int


async def read(storage: StorageClient, key: str) -> InitialImage:
    """Read the image.

    Raises AttemptFailed if it does not exist any more or is not what storage describes, and the RpcError of the call.
    """
    try:
        found, data = await storage.read(key)
    except (errors.NotFound, errors.InvalidArgument):
        raise AttemptFailed(
            "IMAGE_NOT_FOUND",
            f"initial_image.key: the image {key} is no longer in storage",
            will_retry=False,
        ) from None
    file = found.image.file
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise failures.of_storage(errors.DataLoss("storage sent other bytes than it described", reason="IMAGE_INVALID"))
    return InitialImage(data, file.width, file.height)


def parameters(
    requested: GenerationParameters, source: InitialImage, mask: bytes, model: Model | None
) -> GenerationParameters:
    """The parameters to send: with the mask, and with the shape of the initial image if the task gives no size."""
    sent = GenerationParameters()
    sent.CopyFrom(requested)
    sent.initial_image.mask = mask
    if not requested.HasField("width") and not requested.HasField("height") and model is not None:
        sent.width, sent.height = _size(source.width, source.height, model)
    return sent


def _size(width: int, height: int, model: Model) -> tuple[int, int]:
    """The size itself if the model supports it, else the same shape with as many pixels as the default of the model."""
    rounded = _stepped(width, model.width), _stepped(height, model.height)
    if _fits(width, height, model, rounded):
        return rounded
    area = model.width.default * model.height.default
    scale = math.sqrt(area / (width * height))
    return _stepped(width * scale, model.width), _stepped(height * scale, model.height)


def _fits(width: int, height: int, model: Model, rounded: tuple[int, int]) -> bool:
    """Whether less than one step is cut off each side."""
    is_near = abs(rounded[0] - width) < max(1, model.width.step) and abs(rounded[1] - height) < max(
        1, model.height.step
    )
    return is_near and rounded[0] * rounded[1] <= model.max_pixels


def _stepped(side: float, allowed: IntegerRange) -> int:
    """The largest supported value up to `side`, or the nearest one."""
    inside, step = min(max(side, allowed.min), allowed.max), max(1, allowed.step)
    return allowed.min + int(inside - allowed.min) // step * step
