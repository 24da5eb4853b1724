"""Decoding an image once: to know that it can be, which side is up, and to make its thumbhash."""

import asyncio
import base64
import contextlib
import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fast_thumbhash import rgba_to_thumb_hash
from PIL import Image
from PIL.ExifTags import Base

from services.storage.imaging.formats.base import refused
from services.storage.models import ImageInfo

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_THUMBNAIL_SIDE = 64  # ThumbHash takes 100, for more than twice the time, and keeps seven waves a side of either

# What turns an image upright, by its EXIF orientation. Cameras store the sensor's rows and say how they were held.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class Looks:
    """How an image looks when it is shown: its ThumbHash in base64, width and height in pixels, all upright."""

    thumbhash: str
    width: int
    height: int


class Decoder:
    """Decodes in a few threads of its own: one image of 33 megapixels takes 130 MB while it is open."""

    def __init__(self, threads: int) -> None:
        """`threads`: how many images at once."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def look(self, data: bytes, info: ImageInfo) -> Looks:
        """How an image looks. Raises InvalidArgument when it does not decode."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, look, data, info)

    async def close(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._threads.shutdown)


def look(data: bytes, info: ImageInfo) -> Looks:
    """How an image looks whose structure was checked. Raises InvalidArgument if it does not decode.

    Pillow gets only the one format that the bytes begin with, and must see the dimensions that were checked against
    the limits, before it decodes a pixel.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[info.content_type]]) as image:
            if image.size != (info.width, info.height):
                raise refused("two headers of the image name different dimensions")
            image.draft("RGB", (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))  # a JPEG is decoded at an eighth, and read whole
            image.load()
            small = _thumbnail(image)
            orientation = _orientation(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise refused(f"the image does not decode: {type(error).__name__}") from error
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    thumbhash = base64.b64encode(bytes(rgba_to_thumb_hash(small.width, small.height, small.tobytes()))).decode()
    if orientation in _SIDEWAYS:
        return Looks(thumbhash, info.height, info.width)
    return Looks(thumbhash, info.width, info.height)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or EXIF data that nobody can read."""
    with contextlib.suppress(Exception):  # whatever Pillow makes of damaged EXIF data, browsers ignore them too
        found = image.getexif().get(Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    return 1


def _thumbnail(image: Image.Image) -> Image.Image:
    """At most _THUMBNAIL_SIDE pixels a side, RGBA. Palettes are resolved first: their indices cannot be averaged."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode not in ("L", "RGB", "RGBA", "CMYK", "YCbCr"):
        image = image.convert("RGBA")
    # Means over squares of pixels: a filter would take longer and show no difference in so small a picture.
    return image.reduce(math.ceil(max(image.size) / _THUMBNAIL_SIDE)).convert("RGBA")
