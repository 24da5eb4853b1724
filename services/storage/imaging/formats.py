"""The image formats that storage accepts: how their files begin, and how large an image may be."""

from dataclasses import dataclass

from rpc.errors import InvalidArgument

MAX_SIDE = 8192
MAX_PIXELS = 33_000_000
SIGNATURE_BYTES = 12
"""So many bytes decide which format a file has."""


@dataclass(frozen=True)
class ImageFormat:
    """One format: its content type, the extension of its keys, and its name in Pillow.

    `bytes_per_pixel` is the memory that decoding and encoding take at most, as measured and rounded up.
    """

    content_type: str
    extension: str
    pillow: str
    bytes_per_pixel: int


PNG = ImageFormat("image/png", "png", "PNG", 12)
JPEG = ImageFormat("image/jpeg", "jpg", "JPEG", 14)
WEBP = ImageFormat("image/webp", "webp", "WEBP", 26)

MAX_DECODED_BYTES = MAX_PIXELS * WEBP.bytes_per_pixel
"""The most memory that one image takes."""


def recognise(begin: bytes) -> ImageFormat:
    """The format of a file by its first SIGNATURE_BYTES bytes. Raises InvalidArgument for any other format."""
    if begin.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if begin.startswith(b"\xff\xd8\xff"):
        return JPEG
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return WEBP
    raise refused("the bytes are not a PNG, JPEG or WebP image")


def check_dimensions(width: int, height: int) -> None:
    """Raises InvalidArgument for an image that is larger than the limits, or empty."""
    if width < 1 or height < 1:
        raise refused(f"the image has {width} x {height} pixels")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise refused(
            f"the image has {width} x {height} pixels; the limits are {MAX_SIDE} pixels a side and {MAX_PIXELS} pixels "
            "in all",
            reason="IMAGE_TOO_LARGE",
        )


def refused(problem: str, reason: str = "IMAGE_INVALID") -> InvalidArgument:
    """The error for bytes that are not an acceptable image."""
    return InvalidArgument.field("chunk", problem, reason=reason)
