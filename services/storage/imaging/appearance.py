"""What a page needs to know of an image before it loads: size and ThumbHash."""

import base64
import math

from fast_thumbhash import rgba_to_thumb_hash
from PIL import Image

from services.storage.imaging import png
from services.storage.imaging.decoding import opened
from services.storage.imaging.formats import PNG, ImageFormat

_THUMBNAIL_SIDE = 64  # ThumbHash accepts 100 pixels, which takes more than twice the time and looks the same


def describe(data: bytes, image_format: ImageFormat) -> tuple[int, int, str]:
    """Width and height in pixels, and ThumbHash in base64. Raises ImageRefused if the image does not decode."""
    if image_format is PNG:
        png.check_chunks(data)
    with opened(data, image_format) as image:
        width, height = image.size
        image.draft("RGB", (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))  # a JPEG is decoded at an eighth of its size
        return width, height, thumbhash(image)


def thumbhash(image: Image.Image) -> str:
    """The ThumbHash of an image, in base64."""
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode not in ("L", "RGB", "RGBA", "CMYK", "YCbCr"):
        image = image.convert("RGBA")  # indices of a palette cannot be averaged
    # Means over squares of pixels: a filter takes longer and makes no visible difference at this size.
    small = image.reduce(math.ceil(max(image.size) / _THUMBNAIL_SIDE)).convert("RGBA")
    return base64.b64encode(bytes(rgba_to_thumb_hash(small.width, small.height, small.tobytes()))).decode()
