"""A folder for images that the primary backend could not store, with the layout of a LocalBackend."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState

from rpc.errors import DataLoss, ResourceExhausted
from services.storage.backends.local.backend import SIDECARS, LocalBackend
from services.storage.content import Content
from services.storage.models import SpoolUsage, StoredImage

log = logging.getLogger(__name__)

_LOCK_WAIT_SECONDS = 15.0  # the previous process may still be draining
_RETRY_SECONDS = 30.0


class Spool(LocalBackend):
    """Images to be moved to the primary. One process owns the folder and keeps its list of images in memory."""

    def __init__(self, root: Path, max_bytes: int, min_free_bytes: int) -> None:
        """Open or create the folder and list its images. Raises OSError, also if another process owns the folder."""
        super().__init__(root, ImageBackend.IMAGE_BACKEND_SPOOL)
        self.arrived = asyncio.Event()
        """Set after a put."""
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        try:
            self._lock = self._files.lock(".lock", _LOCK_WAIT_SECONDS)
        except BlockingIOError as error:
            raise OSError(f"another process uses the spool {root} (STORAGE_SPOOL_ROOT)") from error
        self._move_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._mutex = threading.Lock()
        self._sizes = dict(self._found())

    def has(self, key: str) -> bool:
        """Whether an image is in the spool."""
        return key in self._sizes

    def spooled_keys(self) -> list[str]:
        """All keys, the oldest request first if the keys begin with a time."""
        return sorted(self._sizes)

    def spooled(self) -> SpoolUsage:
        """The number and size of the images."""
        sizes = list(self._sizes.values())
        return SpoolUsage(len(sizes), sum(sizes))

    def move_lock(self, key: str) -> asyncio.Lock:
        """The lock to hold while an image is marked, or removed after its move."""
        return self._move_locks.setdefault(key, asyncio.Lock())

    async def load(self, key: str) -> tuple[StoredImage, Content]:
        """An image and its bytes, verified; the caller closes them. Raises NotFound and DataLoss."""
        return await self._run("reading", self._load, key)

    async def remove(self, key: str) -> None:
        """Remove an image that was moved: sidecar first, so that after a crash only unlisted data remain."""
        await self._run("removing", self._remove, key)

    async def close(self) -> None:
        """End the threads and release the folder."""
        await super().close()
        os.close(self._lock)

    def _found(self) -> Iterator[tuple[str, int]]:
        for path, _ in self._files.walk(SIDECARS):
            key = path.removeprefix(".meta/")
            try:
                yield key, self._stat(key).file.size_bytes
            except DataLoss as error:
                log.error("a damaged image in the spool is skipped: %s", error)

    # The list is changed by the thread that writes to the disk, so that a cancelled caller cannot separate the two, and
    # under a lock, so that no image is stored while it is removed.

    def _put(self, image: StoredImage, data: Content) -> StoredImage:
        with self._mutex:
            if image.key not in self._sizes:
                self._check_room(data.size)
            stored = super()._put(image, data)
            self._sizes[image.key] = stored.file.size_bytes
            return stored

    def _set_state(self, key: str, state: ImageState) -> StoredImage:
        with self._mutex:
            return super()._set_state(key, state)

    def _check_room(self, size_bytes: int) -> None:
        too_much = self.spooled().size_bytes + size_bytes > self._max_bytes
        if too_much or self._files.free_bytes() - size_bytes < self._min_free_bytes:
            raise ResourceExhausted(
                "the backend does not work, and the spool is full",
                reason="SPOOL_FULL",
                retry_after_seconds=_RETRY_SECONDS,
            )

    def _load(self, key: str) -> tuple[StoredImage, Content]:
        image = self._stat(key)
        data = self._files.view(key)
        if data.sha256() != image.file.sha256:
            data.close()
            raise DataLoss(f"the bytes of {key} in the spool are damaged", reason="CHECKSUM_MISMATCH")
        return image, data

    def _remove(self, key: str) -> None:
        with self._mutex:
            self._files.remove(f".meta/{key}")
            self._sizes.pop(key, None)
            self._files.remove(key)
