"""A folder where images wait for the backend they belong to, laid out as that of a LocalBackend."""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from rpc.errors import DataLoss, ResourceExhausted
from services.storage.backends.local.backend import LocalBackend
from services.storage.keys import IMAGE_PREFIX
from services.storage.models import BackendKind, ImageState, SpoolUse, StoredImage

log = logging.getLogger(__name__)

_LOCK_WAIT_SECONDS = 15.0  # a predecessor may be draining still
_RETRY_SECONDS = 30.0
_RECORDS = f".meta/{IMAGE_PREFIX.rstrip('/')}"


class Spool(LocalBackend):
    """Images that wait. One process owns the folder: what is in it is also known in memory."""

    def __init__(self, root: Path, max_bytes: int, min_free_bytes: int) -> None:
        """Open or make the folder and find what waits in it. Raises OSError, also when another process has it."""
        super().__init__(root, BackendKind.SPOOL)
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        try:
            self._lock = self._files.lock(".lock", _LOCK_WAIT_SECONDS)
        except BlockingIOError as error:
            raise OSError(f"another process uses the spool {root} (STORAGE_SPOOL_ROOT)") from error
        self._mutex = threading.Lock()
        self._sizes = dict(self._found())

    def has(self, key: str) -> bool:
        """Whether an image waits here."""
        return key in self._sizes

    def waiting_keys(self) -> list[str]:
        """What waits, the oldest request first: keys begin with its time, if it has one."""
        return sorted(self._sizes)

    def waiting(self) -> SpoolUse:
        """How much waits."""
        sizes = list(self._sizes.values())
        return SpoolUse(len(sizes), sum(sizes))

    async def load(self, key: str) -> tuple[StoredImage, bytes]:
        """An image and its bytes, verified. Raises NotFound, DataLoss."""
        return await self._run("reading", self._load, key)

    async def remove(self, key: str) -> None:
        """Forget an image that is safe elsewhere: record first, so that a crash leaves nothing that looks alive."""
        await self._run("removing", self._remove, key)

    async def close(self) -> None:
        """End the threads and let another process in."""
        await super().close()
        os.close(self._lock)

    def _found(self) -> Iterator[tuple[str, int]]:
        for path, _ in self._files.walk(_RECORDS):
            key = path.removeprefix(".meta/")
            try:
                yield key, self._stat(key).size_bytes
            except DataLoss as error:
                log.error("a record in the spool is left alone: %s", error)

    # The table is changed by the thread that writes the disk, so that a caller who goes away cannot come between the
    # two; and one at a time, so that nothing is put back while it is being removed.

    def _put(self, image: StoredImage, data: bytes) -> StoredImage:
        with self._mutex:
            if image.key not in self._sizes:
                self._check_room(len(data))
            stored = super()._put(image, data)
            self._sizes[image.key] = stored.size_bytes
            return stored

    def _set_state(self, key: str, state: ImageState) -> StoredImage:
        with self._mutex:
            return super()._set_state(key, state)

    def _check_room(self, size_bytes: int) -> None:
        too_much = self.waiting().size_bytes + size_bytes > self._max_bytes
        if too_much or self._files.free_bytes() - size_bytes < self._min_free_bytes:
            raise ResourceExhausted(
                "the backend does not work, and the spool is full",
                reason="SPOOL_FULL",
                retry_after_seconds=_RETRY_SECONDS,
            )

    def _load(self, key: str) -> tuple[StoredImage, bytes]:
        image = self._stat(key)
        data = self._files.read(key)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise DataLoss(f"the spooled bytes of {key} are damaged", reason="CHECKSUM_MISMATCH")
        return image, data

    def _remove(self, key: str) -> None:
        with self._mutex:
            self._files.remove(f".meta/{key}")
            self._sizes.pop(key, None)
            self._files.remove(key)
