"""Images for tests: encoded by Pillow, or assembled by hand to be wrong in one way."""

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from services.storage.content import Content

CASES = Path(__file__).with_name("cases")
"""Files as phones, cameras and programs write them. Each was refused, or shown wrongly, by an earlier release."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(width: int = 64, height: int = 48, image_format: str = "PNG", *, seed: int = 1, **options: Any) -> bytes:
    """An encoded image; other seeds give other bytes."""
    return encoded(gradient(width, height, seed), image_format, **options)


def content(data: bytes) -> Content:
    """A file with these bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return Content(file.fileno())


def gradient(width: int = 64, height: int = 48, seed: int = 1) -> Image.Image:
    """An RGB image whose corners differ."""
    red = Image.linear_gradient("L").resize((width, height))
    green = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, Image.new("L", (width, height), seed % 256)))


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The file of an image."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    """The image of a file."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def noise(width: int, height: int) -> bytes:
    """A PNG that does not compress."""
    return encoded(Image.effect_noise((width, height), 80).convert("RGB"), "PNG", compress_level=0)


def oriented(orientation: int) -> bytes:
    """EXIF data with an orientation, 1 to 8, and the position of a made-up place."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    return exif.tobytes()


def profile(name: str = "sRGB") -> bytes:
    """An ICC profile that Pillow can make."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A PNG chunk with the right CRC."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """An IHDR chunk."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    """A PNG of the chunks given."""
    return PNG_SIGNATURE + b"".join(chunks)


def pixels(width: int, height: int) -> bytes:
    """The IDAT chunk of a black greyscale image."""
    return chunk(b"IDAT", zlib.compress(bytes((width + 1) * height), 9))


def padded_to(size_bytes: int) -> bytes:
    """A valid PNG of exactly so many bytes."""
    start, end = png(header(8, 8), pixels(8, 8)), chunk(b"IEND")
    return start + chunk(b"caBX", bytes(size_bytes - len(start) - len(end) - 12)) + end
