"""Checking an upload while it arrives: size, kind, structure, checksum; each at the first byte that shows it wrong."""

import hashlib
import io

from rpc.errors import InvalidArgument
from services.storage.imaging.formats import jpeg, png, webp
from services.storage.imaging.formats.base import MAX_IMAGE_BYTES, FormatReader, refused
from services.storage.models import ImageInfo

_RIFF, _WEBP = b"RIFF", b"WEBP"
_SNIFF_BYTES = 12


class Inspection:
    """The bytes of one upload, checked as they come.

    What it accepts has the structure of one PNG, JPEG or WebP image and nothing else before, within or after. Whether
    its pixels can be decoded is another question (services.storage.decoding).
    """

    def __init__(self, size_bytes: int, sha256: str = "") -> None:
        """`size_bytes`: as declared, 1 to MAX_IMAGE_BYTES; `sha256`: as declared, lower-case hex, or empty."""
        self._size = size_bytes
        self._wanted_sha256 = sha256
        # As large as all will be: a buffer that grows is copied many times, and of this one getvalue() is no copy.
        self._buffer = io.BytesIO(bytes(size_bytes))
        self._received = 0
        self._hash = hashlib.sha256()
        self._reader: FormatReader | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises InvalidArgument as soon as the image cannot be a good one any more."""
        if self._received + len(chunk) > self._size:
            raise refused(f"there are more bytes than the {self._size} that the header says", reason="SIZE_MISMATCH")
        self._buffer.write(chunk)
        self._received += len(chunk)
        self._hash.update(chunk)
        with self._buffer.getbuffer() as whole, whole[: self._received] as received:
            if self._reader is None:
                self._reader = _sniff(received, self._size)
            if self._reader is not None:
                self._reader.advance(received)

    def finish(self) -> tuple[bytes, str, ImageInfo]:
        """The bytes, their SHA-256 and what they are. Raises InvalidArgument when something is missing or wrong."""
        if self._received != self._size:
            raise refused(f"the upload ended after {self._received} of {self._size} bytes", reason="SIZE_MISMATCH")
        if self._reader is None:
            raise refused("this is no PNG, JPEG or WebP image")
        info = self._reader.finish()
        sha256 = self._hash.hexdigest()
        if self._wanted_sha256 not in ("", sha256):
            raise InvalidArgument.field("header.sha256", f"the bytes received have {sha256}", reason="SHA256_MISMATCH")
        return self._buffer.getvalue(), sha256, info


def check_size(size_bytes: int) -> None:
    """Raises InvalidArgument for a declared size that is not taken."""
    if not 1 <= size_bytes <= MAX_IMAGE_BYTES:
        raise InvalidArgument.field(
            "header.size_bytes", f"must be 1 to {MAX_IMAGE_BYTES}, not {size_bytes}", reason="IMAGE_TOO_LARGE"
        )


def _sniff(buffer: memoryview, size_bytes: int) -> FormatReader | None:
    """The reader for what begins so; None while that is open. Raises InvalidArgument for anything else."""
    begin = bytes(buffer[:_SNIFF_BYTES])
    if begin.startswith(png.SIGNATURE):
        return png.PngReader(size_bytes)
    if begin.startswith(jpeg.SIGNATURE):
        return jpeg.JpegReader(size_bytes)
    if begin[:4] == _RIFF and begin[8:] == _WEBP:
        return webp.WebpReader(size_bytes)
    if any(signature.startswith(begin) for signature in (png.SIGNATURE, jpeg.SIGNATURE)):
        return None
    if _RIFF.startswith(begin[:4]) and _WEBP.startswith(begin[8:]):
        return None
    raise refused("this is no PNG, JPEG or WebP image")
