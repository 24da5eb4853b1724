"""The bytes of one upload while they arrive: size, signature and SHA-256. They are on the disk, not in memory."""

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from rpc.errors import InvalidArgument
from services.storage.admission import Admission
from services.storage.content import Content
from services.storage.imaging.formats import SIGNATURE_BYTES, ImageFormat, recognise

_IN_MEMORY_BYTES = 512 * 1024
"""So many bytes are collected before they are written."""


@dataclass(frozen=True)
class ReceivedImage:
    """A complete upload. `sha256` is lower-case hex."""

    content: Content
    sha256: str
    format: ImageFormat


class IncomingImage:
    """Collects the bytes of an upload in a temporary file, and refuses them as soon as they cannot be right."""

    def __init__(self, size_bytes: int, sha256: str, scratch: Path, admission: Admission) -> None:
        """`size_bytes` and `sha256` are what the header declares; an empty `sha256` is not compared.

        The file is in the folder `scratch` and has no name. `admission` counts its bytes until the end of the block.
        """
        self._size = size_bytes
        self._declared_sha256 = sha256
        self._scratch = scratch
        self._admission = admission
        self._file: BinaryIO | None = None
        self._content: Content | None = None
        self._writing: asyncio.Future[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._received = 0
        self._hash = hashlib.sha256()
        self._format: ImageFormat | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the file."""
        self._admission.release(self._received)
        if self._writing is not None:  # of a call that was cancelled: its thread still uses the file
            await asyncio.wait([self._writing])
        for opened in (self._content, self._file):
            if opened is not None:
                opened.close()

    async def feed(self, chunk: bytes) -> None:
        """Add the next bytes.

        Raises InvalidArgument for too many bytes, ImageRefused for an unknown signature, Unavailable if there are too
        many uploads, and OSError of the disk.
        """
        if self._received + len(chunk) > self._size:
            raise _wrong_size(f"there are more bytes than the {self._size} in the header")
        self._admission.hold(len(chunk))
        self._received += len(chunk)
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._format is None and self._received >= SIGNATURE_BYTES:
            self._format = recognise(b"".join(self._waiting)[:SIGNATURE_BYTES])
        if self._waiting_bytes >= _IN_MEMORY_BYTES:
            await self._write()

    async def finish(self) -> ReceivedImage:
        """The complete upload.

        Raises InvalidArgument if bytes are missing or the SHA-256 differs, and as `feed` does.
        """
        if self._received != self._size:
            raise _wrong_size(f"the upload ended after {self._received} of {self._size} bytes")
        image_format = self._format or recognise(b"".join(self._waiting))
        await self._write()
        sha256 = self._hash.hexdigest()
        if self._declared_sha256 not in ("", sha256):
            raise InvalidArgument.field(
                "header.sha256", f"the bytes received have the SHA-256 {sha256}", reason="SHA256_MISMATCH"
            )
        assert self._file is not None
        self._content = Content(self._file.fileno())
        return ReceivedImage(self._content, sha256, image_format)

    async def _write(self) -> None:
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write_all, pieces))
        await asyncio.shield(self._writing)

    def _write_all(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115  # closed by __aexit__
        for piece in pieces:
            self._hash.update(piece)
            self._file.write(piece)
        self._file.flush()


def _wrong_size(problem: str) -> InvalidArgument:
    return InvalidArgument.field("chunk", problem, reason="SIZE_MISMATCH")
