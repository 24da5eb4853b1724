"""The image formats that storage accepts: how their files begin, and how large an image may be."""

from dataclasses import dataclass

MAX_SIDE = 8192
MAX_PIXELS = 33_000_000
SIGNATURE_BYTES = 12
"""So many bytes decide which format a file has."""

INVALID, TOO_LARGE = "IMAGE_INVALID", "IMAGE_TOO_LARGE"


class ImageRefused(Exception):
    """The bytes are not an acceptable image. The text says why; it is public."""

    def __init__(self, problem: str, reason: str = INVALID) -> None:
        """`reason` is INVALID or TOO_LARGE."""
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True)
class ImageFormat:
    """One format: its content type, the extension of its keys, and its name in Pillow."""

    content_type: str
    extension: str
    pillow: str


PNG = ImageFormat("image/png", "png", "PNG")
JPEG = ImageFormat("image/jpeg", "jpg", "JPEG")
WEBP = ImageFormat("image/webp", "webp", "WEBP")

FORMATS = {found.pillow: found for found in (PNG, JPEG, WEBP)}
"""All formats by their name in Pillow."""


@dataclass(frozen=True)
class Cost:
    """What decoding and encoding an image of one kind takes.

    `bytes_per_pixel` is measured and rounded up, without the bytes of the file. `max_pixels` is chosen so that the
    largest image fits into the default of STORAGE_DECODE_MAX_BYTES.
    """

    kind: str
    bytes_per_pixel: float
    max_pixels: int

    def memory_bytes(self, width: int, height: int, file_bytes: int) -> int:
        """The memory for one image: its pixels, the file before and after, and what libraries allocate anyway."""
        return int(width * height * self.bytes_per_pixel) + 2 * file_bytes + _FIXED_BYTES


_FIXED_BYTES = 24 * 1024 * 1024  # the stack of a decoder's thread among it
PNG_COST = Cost("a PNG", 9.5, MAX_PIXELS)
JPEG_COST = Cost("a JPEG", 10.5, MAX_PIXELS)
WEBP_COST = Cost("a WebP", 17, 20_000_000)
WEBP_LOSSLESS_COST = Cost("a WebP that is lossless or has transparency", 28, 12_000_000)
COSTS = {PNG: PNG_COST, JPEG: JPEG_COST, WEBP: WEBP_COST}
"""The cost by format; that of a lossless WebP is higher."""


def recognise(begin: bytes) -> ImageFormat:
    """The format of a file by its first SIGNATURE_BYTES bytes. Raises ImageRefused for any other format."""
    if begin.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if begin.startswith(b"\xff\xd8\xff"):
        return JPEG
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return WEBP
    raise ImageRefused("the bytes are not a PNG, JPEG or WebP image")


def check_dimensions(width: int, height: int, cost: Cost) -> None:
    """Raises ImageRefused for an image that is larger than the limits, or empty."""
    if width < 1 or height < 1:
        raise ImageRefused(f"the image has {width} x {height} pixels")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > cost.max_pixels:
        raise ImageRefused(
            f"the image has {width} x {height} pixels; the limits for {cost.kind} are {MAX_SIDE} pixels a side and "
            f"{cost.max_pixels} pixels in all",
            reason=TOO_LARGE,
        )
