"""The image that a task begins from: its size, its mask and its bytes, read anew for each attempt."""

import hashlib
import math
from dataclasses import dataclass, replace

from rpc import errors
from services.posts.clients.generator import IntegerRange, Model
from services.posts.clients.storage import StorageClient
from services.posts.models import InitialImage, Parameters
from services.posts.worker import failures
from services.posts.worker.failures import AttemptFailed


@dataclass(frozen=True)
class Source:
    """A picture to begin from, checked: its encoded bytes, their SHA-256 (hex), size in pixels, and the mask or b""."""

    data: bytes
    sha256: str
    width: int
    height: int
    mask: bytes


async def read(storage: StorageClient, wanted: InitialImage, mask: bytes) -> Source:
    """Read the picture; `mask` is the one to go with it.

    Raises AttemptFailed when the picture is gone or not what storage says it is, and the RpcError of the call.
    """
    try:
        stored, data = await storage.read(wanted.key)
    except (errors.NotFound, errors.InvalidArgument):
        raise AttemptFailed(
            "IMAGE_NOT_FOUND",
            f"initial_image.key: the image {wanted.key} is not in storage any more",
            will_retry=False,
        ) from None
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise failures.of_storage(errors.DataLoss("storage sent other bytes than it said", reason="IMAGE_INVALID"))
    return Source(data, stored.sha256, stored.width, stored.height, mask)


def check_model(model: Model | None) -> None:
    """Raise AttemptFailed for a model that says it cannot begin from a picture. None: the generator will say."""
    if model is not None and not model.initial_images:
        raise AttemptFailed(
            "INVALID_ARGUMENT", f"initial_image: the model {model.id} cannot begin from a picture", will_retry=False
        )


def in_shape(wanted: Parameters, source: Source, model: Model | None) -> Parameters:
    """`wanted` with width and height in the shape of the source, if neither is given and the model can paint it."""
    if wanted.width is not None or wanted.height is not None or model is None:
        return wanted
    width, height = _size(source.width, source.height, model)
    return replace(wanted, width=width, height=height)


def _size(width: int, height: int, model: Model) -> tuple[int, int]:
    """The size itself if the model paints it, else the same shape with as many pixels as the model's default."""
    rounded = _stepped(width, model.width), _stepped(height, model.height)
    if _fits(width, height, model, rounded):
        return rounded
    area = model.width.default * model.height.default
    scale = math.sqrt(area / (width * height))
    return _stepped(width * scale, model.width), _stepped(height * scale, model.height)


def _fits(width: int, height: int, model: Model, rounded: tuple[int, int]) -> bool:
    """Whether less than a step is cut off of each side."""
    is_near = abs(rounded[0] - width) < model.width.step and abs(rounded[1] - height) < model.height.step
    return is_near and rounded[0] * rounded[1] <= model.max_pixels


def _stepped(side: float, allowed: IntegerRange) -> int:
    """The accepted value below `side`, or the nearest one there is."""
    inside = min(max(side, allowed.min), allowed.max)
    return allowed.min + int(inside - allowed.min) // allowed.step * allowed.step
