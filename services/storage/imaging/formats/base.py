"""What the readers of the image formats share: the limits, and how bytes are refused."""

from typing import Protocol

from rpc.errors import InvalidArgument
from services.storage.models import ImageInfo

MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_SIDE = 8192
MAX_PIXELS = 33_000_000


class FormatReader(Protocol):
    """Follows the structure of one image format while its bytes arrive; decodes nothing.

    `buffer` holds what has come so far, more from call to call, and is gone after the call; a reader remembers how far
    it has come.
    """

    def advance(self, buffer: memoryview) -> None:
        """Check all that is complete by now. Raises InvalidArgument at the first byte that cannot be right."""

    def finish(self) -> ImageInfo:
        """What the image is, after its last byte. Raises InvalidArgument when it is not whole."""


def refused(problem: str, reason: str = "IMAGE_INVALID") -> InvalidArgument:
    """The error for bytes that are not an image that is taken here."""
    return InvalidArgument.field("chunk", problem, reason=reason)


def check_dimensions(width: int, height: int) -> None:
    """Raises InvalidArgument beyond the limits."""
    if width < 1 or height < 1:
        raise refused(f"the image is {width} x {height} pixels")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise refused(
            f"the image is {width} x {height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all",
            reason="IMAGE_TOO_LARGE",
        )
