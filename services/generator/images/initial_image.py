"""Decodes initial images and masks: scaled and cropped, off the event loop and off the engine thread.

The files come from users: the size is checked before the pixels are decoded, and only three formats are opened.
"""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from frontispiece.generator.v1.generator_pb2 import GenerateRequest
from frontispiece.types.v1 import generation_pb2 as types
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rpc.errors import InvalidArgument, ResourceExhausted
from rpc.limits import limits
from services.generator.images.mask import soften
from services.generator.models import InitialPixels
from services.generator.validation import used_initial_image

MAX_IMAGE_PIXELS = limits(GenerateRequest, "initial_image").max_pixels
MAX_MASK_PIXELS = limits(types.InitialImage, "mask").max_pixels
MAX_HELD_BYTES = 256 * 2**20
"""Encoded initial images and masks of all calls, waiting or in progress: sixteen of the largest size."""

# Each decoding may need 200 MB for a moment.
_DECODER_THREADS = 2
_HALF = 128

# Names in GenerateRequest.
_IMAGE, _MASK = "initial_image", "parameters.initial_image.mask"


class InitialImageReader:
    """Decodes a few images at once on threads of its own, and limits the memory of encoded ones.

    grpc.aio keeps a request until its call ends, so an encoded image costs memory long after it was decoded.
    """

    def __init__(self) -> None:
        """No thread is started before the first image."""
        self._threads = ThreadPoolExecutor(_DECODER_THREADS, thread_name_prefix="initial-image")
        self._held_bytes = 0

    @contextlib.contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Around a call that brought so many bytes. Raises ResourceExhausted when all calls together bring too many.

        The only call that brings an image is always accepted.
        """
        if size_bytes and self._held_bytes and self._held_bytes + size_bytes > MAX_HELD_BYTES:
            raise ResourceExhausted(
                f"requests in progress or waiting already have initial images of {self._held_bytes} bytes",
                reason="QUEUE_FULL",
                retry_after_seconds=1.0,
            )
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes

    async def check_mask(self, mask: bytes) -> None:
        """Raise InvalidArgument for a mask that cannot be decoded, is too large or marks nothing at any size."""
        await asyncio.get_running_loop().run_in_executor(self._threads, _check_mask, mask)

    async def read(self, initial: types.InitialImage, data: bytes, width: int, height: int) -> InitialPixels:
        """See `read_initial_image`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, read_initial_image, initial, data, width, height)


def read_initial_image(initial: types.InitialImage, data: bytes, width: int, height: int) -> InitialPixels:
    """The first frame of `data`, upright and without transparency, scaled to cover width × height, cropped at its
    centre.

    Raises InvalidArgument that names the image or the mask when it cannot be decoded, has more than MAX_IMAGE_PIXELS or
    MAX_MASK_PIXELS, or, for the mask, when it marks no pixel.
    """
    used = used_initial_image(initial)
    opacity = None
    if initial.mask:
        painted = _marked(_fit(_MASK, initial.mask, ("PNG",), (width, height)))
        opacity = soften(painted, used.mask_feather)
    return InitialPixels(
        pixels=_fit(_IMAGE, data, ("PNG", "JPEG", "WEBP"), (width, height)),
        opacity=opacity,
        used=used,
        sha256=hashlib.sha256(data).hexdigest(),
        mask_sha256=hashlib.sha256(initial.mask).hexdigest() if initial.mask else "",
    )


def _check_mask(mask: bytes) -> None:
    _marked(_fit(_MASK, mask, ("PNG",), None))


def _marked(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the image may change, (height, width). Raises InvalidArgument if that is nowhere."""
    painted: NDArray[np.bool_] = mask[..., 0] >= _HALF
    if not painted.any():
        raise InvalidArgument.field(_MASK, f"must have a pixel of lightness {_HALF} or more: it marks nothing")
    return painted


def _fit(field: str, data: bytes, formats: tuple[str, ...], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The image as (height, width, 3), in its own size for None. The three channels of a mask are its lightness."""
    most = MAX_IMAGE_PIXELS if field == _IMAGE else MAX_MASK_PIXELS
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height <= most:
                if size is not None:
                    # A large JPEG is decoded at a fraction of its size.
                    image.draft(None, (2 * max(size), 2 * max(size)))
                ImageOps.exif_transpose(image, in_place=True)
                flat = _flatten(image, "white") if field == _IMAGE else _flatten(image, "black").convert("L")
                fitted = ImageOps.fit(flat, size, Image.Resampling.LANCZOS) if size is not None else flat
                return np.array(fitted.convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes the decoders of Pillow raise exceptions of any kind
        raise InvalidArgument.field(field, f"must be a {' or '.join(formats)}; it cannot be decoded") from error
    raise InvalidArgument.field(field, f"must have at most {most} pixels")


def _flatten(image: Image.Image, background: str) -> Image.Image:
    """As RGB on a plain background: black for a mask, so that transparent pixels are kept."""
    if image.mode.startswith("I"):  # 16 bits a channel; Pillow would clip them at 255
        deep = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(deep.clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    opaque = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
