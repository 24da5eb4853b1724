"""The interface of a backend."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState

from services.storage.content import Content
from services.storage.models import ByteRange, SpoolUsage, StoredImage

CACHE_CONTROL = "max-age=31536000, immutable"
"""A key identifies its content, so a cached copy never expires. `public` is unnecessary for anonymous requests and
wrong for authenticated ones."""

READ_SIZE = 32 * 1024
"""Bytes to read at once from a backend: so much is in memory for each reader."""


class Backend(Protocol):
    """Durable storage of images.

    Errors are rpc.errors: NotFound only if the backend said that there is no such image; Unavailable, with a time to
    retry, for everything that a repetition may cure; ResourceExhausted for a full disk; DataLoss for changed bytes.
    """

    kind: ImageBackend
    scratch: Path
    """A folder for temporary files."""

    async def check(self) -> None:
        """Write a probe and read it back. Raises Unavailable, ResourceExhausted or BackendRefused on failure."""

    async def ping(self) -> None:
        """A cheaper check that is made often. Raises as `check` does."""

    async def put(self, image: StoredImage, data: Content) -> StoredImage:
        """Store `data` under `image.key` unless the key exists. When this returns, the image is durable.

        Returns the existing image if it came from the same upload; raises AlreadyExists otherwise.
        """

    async def stat(self, key: str) -> StoredImage:
        """The description of an image."""

    async def keys_in(self, folder: str) -> list[str]:
        """Keys in a folder below IMAGE_PREFIX, written with the slash at its end; all keys if there are only a few."""

    def read(self, key: str, wanted: ByteRange) -> AsyncGenerator[bytes]:
        """The bytes of a range within the image, in pieces of at most READ_SIZE."""

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image. When this returns, the mark is durable."""

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """A URL that reads the bytes from the backend for `ttl_seconds`; None if the backend has no URLs."""

    def spooled(self) -> SpoolUsage:
        """The images that are still to be moved to this backend."""

    async def close(self) -> None:
        """Release all resources. No call may follow."""


class BackendRefused(Exception):
    """The backend refuses: wrong keys, no permission or no such bucket. An operator must change the settings."""
