"""Decoding of images by Pillow, with the limits checked before a pixel is decoded."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageChops, UnidentifiedImageError

from services.storage.imaging import png, webp
from services.storage.imaging.formats import (
    COSTS,
    JPEG,
    JPEG_COST,
    PNG,
    PNG_COST,
    TOO_LARGE,
    WEBP,
    ImageFormat,
    ImageRefused,
    check_dimensions,
)

_MAX_SCANS = 64
"""A decoder passes over all pixels for each scan of a JPEG: 20 ms for 33 megapixels, however small the scan is.
Encoders write about ten scans."""

# The next marker of a JPEG: not a stuffed zero, a restart marker or a fill byte.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_WITHOUT_LENGTH = (0x01, 0xD8)
_END, _SCAN = 0xD9, 0xDA
_FILLER = b"\x55" * 64


def memory_needed(data: bytes, image_format: ImageFormat) -> int:
    """The bytes of memory that decoding and encoding this image take. No pixel is decoded.

    Raises ImageRefused for an image that is larger than the limits, and as `opened` does.
    """
    if image_format is PNG:
        (width, height), cost = png.read_size(data), PNG_COST  # Pillow would read all text chunks first
    elif image_format is WEBP:
        width, height, cost = webp.read_header(data)
    else:
        with opened(data, image_format) as image:
            (width, height), cost = image.size, JPEG_COST
    check_dimensions(width, height, cost)
    return cost.memory_bytes(width, height, len(data))


def decode(data: bytes, image_format: ImageFormat) -> Image.Image:
    """The decoded image. Raises ImageRefused if pixels are missing or damaged, and as `opened` does."""
    if image_format is JPEG:
        return _decode_jpeg(data)
    if image_format is PNG:
        data = png.essential(data)
    with opened(data, image_format) as image:
        image.load()
        return image.copy() if image_format is WEBP else image  # the copy lets go of the decoder: 8 bytes a pixel


@contextmanager
def opened(data: bytes, image_format: ImageFormat) -> Iterator[Image.Image]:
    """An image whose header was read, and no pixel.

    Raises ImageRefused if the image is animated or larger than the limits. Whatever Pillow raises in the block
    becomes ImageRefused too.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[image_format.pillow]) as image:
            check_dimensions(*image.size, COSTS[image_format])
            if image_format is not JPEG and getattr(image, "is_animated", False):
                raise ImageRefused("the image is animated; only still images are accepted")
            yield image
    except (ImageRefused, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("the image has too many pixels", reason=TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise ImageRefused(f"the header of the {image_format.pillow} is damaged") from error
    except Exception as error:  # on damaged bytes the decoders raise many types, struct.error and IndexError included
        problem = str(error) or type(error).__name__
        raise ImageRefused(f"the {image_format.pillow} cannot be decoded: {problem}") from error


def _decode_jpeg(data: bytes) -> Image.Image:
    """A JPEG; what follows its end marker is ignored.

    Some cameras and copies leave out the end marker. libjpeg makes missing pixels from the bytes that follow, so such
    an image is decoded with two different continuations: the results differ exactly if pixels are missing.
    """
    continuations = (b"",) if _has_end(data) else (b"\xff\xd9", _FILLER + b"\xff\xd9")
    images = []
    for continuation in continuations:
        with opened(data + continuation, JPEG) as image:
            image.load()
            images.append(image)
    if len(images) > 1 and ImageChops.difference(*images).getbbox():
        raise ImageRefused("the JPEG is truncated: pixels are missing")
    return images[0]


def _has_end(data: bytes) -> bool:
    """Whether a JPEG has an end marker. Raises ImageRefused for one with more scans than _MAX_SCANS."""
    scans, position = 0, 2
    while found := _MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _END:
            return True
        scans += marker == _SCAN
        if scans > _MAX_SCANS:
            raise ImageRefused(f"the JPEG has more than {_MAX_SCANS} scans")
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return False
