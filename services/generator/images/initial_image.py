"""Reading the pictures that generations begin from: decoded, scaled and cut off the event loop and the engine's thread.

A picture is somebody else's file: its size is looked at before its pixels are, and only three formats are opened.
"""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rpc.errors import InvalidArgument, ResourceExhausted
from services.generator.images.mask import soften
from services.generator.models import InitialImage, InitialPixels, UsedInitialImage
from services.generator.validation import mask_feather_of, strength_of

MAX_PICTURE_PIXELS = 32_000_000
MAX_HELD_BYTES = 256 * 2**20
"""Pictures, as they were sent, of all calls in work or waiting: sixteen of the largest, hundreds of usual ones."""

# Each may need 200 MB for a moment.
_AT_ONCE = 2
_HALF = 128

_PICTURE, _MASK = "initial_image.data", "initial_image.mask"


class InitialImageReader:
    """Reads a few pictures at once, on threads of its own; others wait.

    It also counts the bytes of all calls that brought a picture: grpc.aio keeps a request until its call ends, so
    they cost memory long after they were read.
    """

    def __init__(self) -> None:
        """No thread is started before the first picture."""
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="picture")
        self._held_bytes = 0

    @contextlib.contextmanager
    def hold(self, initial: InitialImage | None) -> Iterator[None]:
        """Around a call that brought this picture, or none. Raises ResourceExhausted when it would be too much.

        A picture is always taken when it is the only one.
        """
        size = len(initial.data) + len(initial.mask) if initial else 0
        if size and self._held_bytes and self._held_bytes + size > MAX_HELD_BYTES:
            raise ResourceExhausted(
                f"pictures of {self._held_bytes} bytes are in work or waiting already",
                reason="QUEUE_FULL",
                retry_after_seconds=1.0,
            )
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size

    async def read(self, initial: InitialImage, width: int, height: int) -> InitialPixels:
        """See `read_initial_image`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, read_initial_image, initial, width, height)


def read_initial_image(initial: InitialImage, width: int, height: int) -> InitialPixels:
    """The first frame, upright and without transparency, scaled to cover width × height and cut in the middle.

    Raises InvalidArgument that names the picture or the mask when it cannot be read, has more than
    MAX_PICTURE_PIXELS, or, of the mask, when it leaves nothing to paint.
    """
    opacity = None
    if initial.mask:
        painted = _fit(_MASK, initial.mask, ("PNG",), (width, height))[..., 0] >= _HALF
        if not painted.any():
            raise InvalidArgument.field(_MASK, "is nowhere lighter than half: there is nothing to paint")
        opacity = soften(painted, mask_feather_of(initial))
    return InitialPixels(
        pixels=_fit(_PICTURE, initial.data, ("PNG", "JPEG", "WEBP"), (width, height)),
        opacity=opacity,
        used=UsedInitialImage(
            sha256=hashlib.sha256(initial.data).hexdigest(),
            strength=strength_of(initial),
            mask_sha256=hashlib.sha256(initial.mask).hexdigest() if initial.mask else "",
            mask_feather=mask_feather_of(initial),
        ),
    )


def _fit(field: str, data: bytes, formats: tuple[str, ...], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture as (height, width, 3); of a mask all three are its lightness."""
    names = " or ".join(formats)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height <= MAX_PICTURE_PIXELS:
                image.draft(None, (2 * max(size), 2 * max(size)))  # a large JPEG is decoded at a fraction of its size
                ImageOps.exif_transpose(image, in_place=True)
                flat = _flatten(image, "white") if field == _PICTURE else _flatten(image, "black").convert("L")
                fitted = ImageOps.fit(flat, size, Image.Resampling.LANCZOS)
                return np.array(fitted.convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes Pillow's decoders raise whatever they meet
        raise InvalidArgument.field(field, f"is no {names} that can be read") from error
    raise InvalidArgument.field(field, f"must have at most {MAX_PICTURE_PIXELS} pixels")


def _flatten(image: Image.Image, background: str) -> Image.Image:
    """As RGB on a plain background. A mask's is black: what nobody drew on is kept."""
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would cut them off at 255
        deep = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(deep.clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    opaque = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
