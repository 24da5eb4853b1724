"""Images in a folder: the data at their key, their record beside it below `.meta/`.

    var/media/generated/1790000000-<uuid>.png         the bytes
    var/media/.meta/generated/1790000000-<uuid>.png   content type, cache control, state, sha256, metadata (JSON)
    var/media/.tmp/<random>                           being written; swept at start

An image exists once both files do, data first: a crash in between leaves data nobody was told of, which the next try
with the same bytes completes and the sweep at start removes.
"""

import asyncio
import errno
import hashlib
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from rpc.errors import AlreadyExists, DataLoss, NotFound
from services.storage.backends.base import CACHE_CONTROL, READ_SIZE
from services.storage.backends.local import sidecar
from services.storage.backends.local.files import FileTree, translated
from services.storage.keys import IMAGE_PREFIX
from services.storage.models import BackendKind, ByteRange, ImageState, SpoolUse, StoredImage

log = logging.getLogger(__name__)

THREADS = 8
ORPHAN_SECONDS = 600.0
MIN_FREE_BYTES = 64 * 1024 * 1024
"""With less, a disk counts as unhealthy: that is two of the largest images."""

_PROBES = ".probe"

P = ParamSpec("P")
T = TypeVar("T")


class LocalBackend:
    """Images on the disk of this process. Several processes of one machine may share the folder."""

    def __init__(self, root: Path, kind: BackendKind = BackendKind.LOCAL) -> None:
        """Open or make the folder and sweep it. Raises OSError."""
        self.kind = kind
        self._files = FileTree(root)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"{kind.value}-disk")
        self._sweep()

    @staticmethod
    def has_images(root: Path) -> bool:
        """Whether a folder, which need not exist, holds images."""
        return any((root / ".meta" / IMAGE_PREFIX).glob("*"))

    async def check(self) -> None:
        """Write a probe and read it back."""
        await self._run("checking", self._check)

    async def ping(self) -> None:
        """The same as `check`: it is cheap on a disk."""
        await self.check()

    async def put(self, image: StoredImage, data: bytes) -> StoredImage:
        """Keep an image: data, then record, each fsynced with its folder."""
        return await self._run("storing", self._put, image, data)

    async def stat(self, key: str) -> StoredImage:
        """What is known of an image."""
        return await self._run("reading", self._stat, key)

    async def keys_in(self, folder: str) -> list[str]:
        """Keys of images in a folder."""
        return await self._run("looking", self._keys_in, folder)

    async def read(self, key: str, wanted: ByteRange) -> AsyncIterator[bytes]:
        """The bytes of a range."""
        descriptor = await self._run("reading", self._open, key)
        try:
            position, end = wanted.start, wanted.start + wanted.size
            while position < end:
                piece = await self._run("reading", os.pread, descriptor, min(READ_SIZE, end - position), position)
                if not piece:
                    raise DataLoss(f"{key} is shorter than its record says", reason="TRUNCATED")
                position += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image in its record."""
        return await self._run("marking", self._set_state, key, state)

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """None: a disk has no URL."""
        return None

    async def holds_locally(self, key: str) -> bool:
        """Whether there is such an image."""
        try:
            await self.stat(key)
        except NotFound:
            return False
        return True

    def waiting(self) -> SpoolUse:
        """Nothing."""
        return SpoolUse()

    async def close(self) -> None:
        """End the threads; what they do now is finished first."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, doing: str, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        def call() -> T:
            with _disk_errors(doing):
                return function(*arguments, **keywords)

        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _check(self) -> None:
        free = self._files.free_bytes()
        if free < MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free")
        path, content = f"{_PROBES}/{uuid.uuid4().hex}", os.urandom(64)
        try:
            if not self._files.create(path, content) or self._files.read(path) != content:
                raise OSError("the probe file has other content than was written")
        finally:
            self._files.remove(path)

    def _put(self, image: StoredImage, data: bytes) -> StoredImage:
        if not self._files.create(image.key, data):
            return self._existing(image)
        return self._record(image)

    def _existing(self, image: StoredImage) -> StoredImage:
        """What is under the key already, if it has the same bytes; completes what a crash has left halfway."""
        try:
            found = self._stat(image.key)
        except NotFound:
            if hashlib.sha256(self._files.read(image.key)).hexdigest() != image.sha256:
                raise _taken(image.key) from None
            self._files.sync(image.key)
            return self._record(image)
        if (found.sha256, found.size_bytes) != (image.sha256, image.size_bytes):
            raise _taken(image.key)
        self._files.sync(_record_path(image.key))
        return found

    def _record(self, image: StoredImage) -> StoredImage:
        image = replace(image, backend=self.kind)
        if self._files.create(_record_path(image.key), sidecar.encode(image, CACHE_CONTROL)):
            return image
        return self._stat(image.key)

    def _stat(self, key: str) -> StoredImage:
        try:
            return sidecar.decode(self._files.read(_record_path(key)), key, self.kind)
        except FileNotFoundError:
            raise _unknown(key) from None

    def _keys_in(self, folder: str) -> list[str]:
        return [path.removeprefix(".meta/") for path, _ in self._files.walk(_record_path(folder.rstrip("/")))]

    def _open(self, key: str) -> int:
        try:
            return self._files.open(key)
        except FileNotFoundError:
            raise _unknown(key) from None

    def _set_state(self, key: str, state: ImageState) -> StoredImage:
        image = self._stat(key)
        if image.state is not state:
            image = replace(image, state=state)
            self._files.replace(_record_path(key), sidecar.encode(image, CACHE_CONTROL))
        return image

    def _sweep(self) -> None:
        """Remove what crashes have left: temporary files, and old data without a record."""
        litter = self._files.sweep_temporary()
        recorded = {path.removeprefix(".meta/") for path, _ in self._files.walk(f".meta/{IMAGE_PREFIX.rstrip('/')}")}
        before = time.time() - ORPHAN_SECONDS
        data = [*self._files.walk(IMAGE_PREFIX.rstrip("/")), *self._files.walk(_PROBES)]
        orphans = [path for path, modified in data if modified < before and path not in recorded]
        for path in orphans:
            self._files.remove(path)
        if litter or orphans:
            log.warning("swept what a crash left", extra={"temporary": litter, "orphans": len(orphans)})


@contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("%s failed", doing, exc_info=error)
        raise translated(error, doing) from error


def _record_path(key: str) -> str:
    return f".meta/{key}"


def _unknown(key: str) -> NotFound:
    return NotFound(f"there is no image {key}", reason="IMAGE_NOT_FOUND")


def _taken(key: str) -> AlreadyExists:
    return AlreadyExists(f"{key} holds another image", reason="KEY_TAKEN")
