"""A fast PNG encoder: one filter for all lines, and ISA-L, which releases the GIL."""

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from isal import isal_zlib
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_FILTER_SUB = 1
_BITS = 8
_RGB = 2
_PNG_PREVIEW_PIXELS = 192 * 192
_JPEG_QUALITY = 80


def encode_png(pixels: "NDArray[np.uint8]") -> bytes:
    """Encode an image of shape (height, width, 3) losslessly; about 12 ms and 1.7 MB for 1024×1024.

    The SUB filter (difference to the left neighbour) is the cheapest that helps with photographs. To try all five
    filters on each line, as libpng does, takes ten times as long and saves a few per cent.
    """
    height, width, channels = pixels.shape
    if channels != 3:
        raise ValueError(f"an image has three channels, not {channels}")
    lines = np.empty((height, 1 + width * 3), np.uint8)
    lines[:, 0] = _FILTER_SUB
    flat = pixels.reshape(height, width * 3)
    lines[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=lines[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, _BITS, _RGB, 0, 0, 0)
    data = isal_zlib.compress(lines.data, level=1)
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def encode_preview(pixels: "NDArray[np.uint8]") -> tuple[str, bytes]:
    """The content type and the bytes of a preview (height, width, 3).

    A preview of a tiny decoder has ten times the pixels of a projected one. As a PNG it would be 100 KiB, so it is a
    JPEG.
    """
    if pixels.shape[0] * pixels.shape[1] <= _PNG_PREVIEW_PIXELS:
        return "image/png", encode_png(pixels)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return "image/jpeg", stream.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
