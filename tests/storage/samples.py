"""Images for tests: real ones by Pillow, and broken ones made by hand."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 64, height: int = 48, image_format: str = "PNG", *, seed: int = 1, **options: Any) -> bytes:
    """An encoded picture; other seeds give other bytes."""
    red = Image.linear_gradient("L").resize((width, height))
    green = Image.radial_gradient("L").resize((width, height))
    blue = Image.new("L", (width, height), seed % 256)
    buffer = io.BytesIO()
    Image.merge("RGB", (red, green, blue)).save(buffer, image_format, **options)
    return buffer.getvalue()


def noise(width: int, height: int) -> bytes:
    """A PNG that does not compress."""
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A PNG chunk with the right CRC."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """An IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(*chunks: bytes) -> bytes:
    """A PNG of the chunks given."""
    return PNG_SIGNATURE + b"".join(chunks)


def pixels(width: int, height: int) -> bytes:
    """The IDAT chunk of a black greyscale picture."""
    return chunk(b"IDAT", zlib.compress(bytes((width + 1) * height), 9))


def padded_to(size_bytes: int) -> bytes:
    """A valid PNG of exactly so many bytes."""
    start, end = png(header(8, 8), pixels(8, 8)), chunk(b"IEND")
    return start + chunk(b"caBX", bytes(size_bytes - len(start) - len(end) - 12)) + end
