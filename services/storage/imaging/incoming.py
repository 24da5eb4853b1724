"""The bytes of one upload while they arrive: size, signature and SHA-256."""

import hashlib
import io
from dataclasses import dataclass

from rpc.errors import InvalidArgument
from services.storage.imaging.formats import SIGNATURE_BYTES, ImageFormat, recognise, refused


@dataclass(frozen=True)
class ReceivedImage:
    """A complete upload. `sha256` is lower-case hex."""

    data: bytes
    sha256: str
    format: ImageFormat


class IncomingImage:
    """Collects the bytes of an upload and refuses them as soon as they cannot be right."""

    def __init__(self, size_bytes: int, sha256: str = "") -> None:
        """`size_bytes` and `sha256` are what the header declares; an empty `sha256` is not compared."""
        self._size = size_bytes
        self._declared_sha256 = sha256
        # Allocated at full size: a growing buffer is copied many times, and getvalue() of this one is no copy.
        self._buffer = io.BytesIO(bytes(size_bytes))
        self._received = 0
        self._hash = hashlib.sha256()
        self._format: ImageFormat | None = None

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes. Raises InvalidArgument for too many bytes and for an unknown signature."""
        if self._received + len(chunk) > self._size:
            raise refused(f"there are more bytes than the {self._size} in the header", reason="SIZE_MISMATCH")
        self._buffer.write(chunk)
        self._received += len(chunk)
        self._hash.update(chunk)
        if self._format is None and self._received >= SIGNATURE_BYTES:
            self._format = self._recognise()

    def finish(self) -> ReceivedImage:
        """The complete upload. Raises InvalidArgument if bytes are missing or the SHA-256 differs."""
        if self._received != self._size:
            raise refused(f"the upload ended after {self._received} of {self._size} bytes", reason="SIZE_MISMATCH")
        image_format = self._format or self._recognise()
        sha256 = self._hash.hexdigest()
        if self._declared_sha256 not in ("", sha256):
            raise InvalidArgument.field(
                "header.sha256", f"the bytes received have the SHA-256 {sha256}", reason="SHA256_MISMATCH"
            )
        return ReceivedImage(self._buffer.getvalue(), sha256, image_format)

    def _recognise(self) -> ImageFormat:
        with self._buffer.getbuffer() as whole:
            return recognise(bytes(whole[: min(self._received, SIGNATURE_BYTES)]))
