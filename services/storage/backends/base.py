"""What a backend promises, whatever it keeps images in."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.storage.models import BackendKind, ByteRange, ImageState, SpoolUse, StoredImage

CACHE_CONTROL = "max-age=31536000, immutable"
"""Keys name their content, so a copy never goes stale. Without `public`: shared caches may keep answers to requests
without credentials anyway, and answers to requests with credentials are not theirs to keep."""

READ_SIZE = 1024 * 1024
"""Bytes read at once from a backend."""


class Backend(Protocol):
    """A place that keeps images for good.

    Errors are rpc.errors: NotFound only when the backend said that there is no such image; Unavailable (with a time to
    retry) for everything that another try may cure; ResourceExhausted for a full disk; DataLoss for bytes that changed.
    """

    kind: BackendKind

    async def check(self) -> None:
        """Write a probe and read it back. Raises Unavailable, ResourceExhausted or BackendRefused when it cannot."""

    async def ping(self) -> None:
        """A cheaper check, made often. Raises as `check` does."""

    async def put(self, image: StoredImage, data: bytes) -> StoredImage:
        """Keep `data` under `image.key` if nothing is there; the answer means that it is durable.

        Answers what is there when that has the same bytes; raises AlreadyExists when it has others.
        """

    async def stat(self, key: str) -> StoredImage:
        """What is known of an image."""

    async def keys_in(self, folder: str) -> list[str]:
        """Some keys of images in a folder below IMAGE_PREFIX, written with its last slash: all if there are few."""

    def read(self, key: str, wanted: ByteRange) -> AsyncIterator[bytes]:
        """The bytes of a range that lies within the image, in pieces of at most READ_SIZE."""

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image; it is durable when this returns."""

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """A URL that reads the bytes from the backend itself for `ttl_seconds`; None where there is no such thing."""

    async def holds_locally(self, key: str) -> bool:
        """Whether the bytes of `key` are on a disk of ours, where a CDN in front of the backend cannot see them."""

    def waiting(self) -> SpoolUse:
        """What waits to be moved to where it belongs."""

    async def close(self) -> None:
        """Release what is held; no call may follow."""


class BackendRefused(Exception):
    """The backend answered, and says no: wrong keys, no permission, no such bucket. Waiting does not cure it."""
