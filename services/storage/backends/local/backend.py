"""Images in a folder: the data at their key, and a sidecar file of the same name below `.meta/`.

    var/media/generated/1790000000-<uuid>.png         the bytes
    var/media/.meta/generated/1790000000-<uuid>.png   content type, cache control, state, sha256, metadata (JSON)
    var/media/.tmp/<random>                           files that are being written; removed at the next start

An image exists when both files exist. The data are written first. A crash in between leaves data that were not
acknowledged: a repeated upload completes them, and the sweep at start removes them.
"""

import asyncio
import errno
import logging
import os
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from frontispiece.storage.v1.images_pb2 import ImageBackend, ImageState

from rpc.errors import AlreadyExists, DataLoss, NotFound
from services.storage.backends.base import READ_SIZE
from services.storage.backends.local import sidecar
from services.storage.backends.local.files import FileTree, read_cached, translated
from services.storage.content import Content
from services.storage.keys import IMAGE_PREFIX
from services.storage.models import ByteRange, SpoolUsage, StoredImage

log = logging.getLogger(__name__)

THREADS = 8
ORPHAN_SECONDS = 600.0
MIN_FREE_BYTES = 64 * 1024 * 1024
"""With less free space, a disk counts as unhealthy. Two of the largest images fit into it."""

SIDECARS = f".meta/{IMAGE_PREFIX.rstrip('/')}"

_PROBES = ".probe"

P = ParamSpec("P")
T = TypeVar("T")


class LocalBackend:
    """Images on a disk. Several processes of one machine may share the folder."""

    def __init__(
        self,
        root: Path,
        kind: ImageBackend = ImageBackend.IMAGE_BACKEND_LOCAL,
        *,
        world_readable: bool = False,
    ) -> None:
        """Open or create the folder and sweep it. `world_readable`: for every user of the machine. Raises OSError."""
        self.kind = kind
        self._files = FileTree(root, world_readable=world_readable)
        self.scratch = self._files.scratch
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        self._sweep()

    @staticmethod
    def has_images(root: Path) -> bool:
        """Whether a folder, which need not exist, has images."""
        return any((root / ".meta" / IMAGE_PREFIX).glob("*"))

    async def check(self) -> None:
        """Write a probe and read it back."""
        await self._run("checking", self._check)

    async def ping(self) -> None:
        """The same as `check`, which is cheap on a disk."""
        await self.check()

    async def put(self, image: StoredImage, data: Content) -> StoredImage:
        """Store an image: data, then sidecar, each fsynced with its folder."""
        return await self._run("storing", self._put, image, data.copy())

    async def stat(self, key: str) -> StoredImage:
        """The description of an image."""
        return await self._run("reading", self._stat, key)

    async def keys_in(self, folder: str) -> list[str]:
        """Keys of images in a folder."""
        return await self._run("listing", self._keys_in, folder)

    async def read(self, key: str, wanted: ByteRange) -> AsyncGenerator[bytes]:
        """The bytes of a range."""
        descriptor = await self._run("reading", self._open, key)
        try:
            position, end = wanted.start, wanted.start + wanted.size
            while position < end:
                size = min(READ_SIZE, end - position)
                piece = read_cached(descriptor, size, position)
                if not piece:
                    piece = await self._run("reading", os.pread, descriptor, size, position)
                if not piece:
                    raise DataLoss(f"{key} is shorter than its sidecar file says", reason="TRUNCATED")
                position += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image in its sidecar."""
        return await self._run("marking", self._set_state, key, state)

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """None: a disk has no URLs."""
        return None

    def spooled(self) -> SpoolUsage:
        """Nothing."""
        return SpoolUsage()

    async def close(self) -> None:
        """Finish the calls in progress and end the threads."""
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
                raise OSError("the content of the probe file differs from what was written")
        finally:
            self._files.remove(path)

    def _put(self, image: StoredImage, data: Content) -> StoredImage:
        with data:
            if not self._files.create(image.key, data):
                return self._existing(image)
        return self._write_sidecar(image)

    def _existing(self, image: StoredImage) -> StoredImage:
        """The existing image if it came from the same upload. Completes an image that a crash has left incomplete."""
        try:
            found = self._stat(image.key)
        except NotFound:
            with self._files.view(image.key) as data:
                sha256 = data.sha256()
            if sha256 != image.file.sha256:
                raise _taken(image.key) from None
            self._files.sync(image.key)
            return self._write_sidecar(image)
        if not found.is_same_upload(image):
            raise _taken(image.key)
        self._files.sync(_sidecar_path(image.key))
        return found

    def _write_sidecar(self, image: StoredImage) -> StoredImage:
        image = replace(image, backend=self.kind)
        if self._files.create(_sidecar_path(image.key), sidecar.encode(image)):
            return image
        return self._stat(image.key)

    def _stat(self, key: str) -> StoredImage:
        try:
            return sidecar.decode(self._files.read(_sidecar_path(key)), key, self.kind)
        except FileNotFoundError:
            raise _unknown(key) from None

    def _keys_in(self, folder: str) -> list[str]:
        return [path.removeprefix(".meta/") for path, _ in self._files.walk(_sidecar_path(folder.rstrip("/")))]

    def _open(self, key: str) -> int:
        try:
            return self._files.open(key)
        except FileNotFoundError:
            raise _unknown(key) from None

    def _set_state(self, key: str, state: ImageState) -> StoredImage:
        image = self._stat(key)
        if image.state != state:
            image = replace(image, state=state)
            self._files.replace(_sidecar_path(key), sidecar.encode(image))
        return image

    def _sweep(self) -> None:
        """Remove what crashes have left: temporary files, and old data without a sidecar."""
        temporary = self._files.sweep_temporary()
        complete = {path.removeprefix(".meta/") for path, _ in self._files.walk(SIDECARS)}
        before = time.time() - ORPHAN_SECONDS
        data = [*self._files.walk(IMAGE_PREFIX.rstrip("/")), *self._files.walk(_PROBES)]
        orphans = [path for path, modified in data if modified < before and path not in complete]
        for path in orphans:
            self._files.remove(path)
        if temporary or orphans:
            log.warning(
                "removed incomplete files of an earlier crash", extra={"temporary": temporary, "orphans": len(orphans)}
            )


@contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("%s failed", doing, exc_info=error)
        raise translated(error, doing) from error


def _sidecar_path(key: str) -> str:
    return f".meta/{key}"


def _unknown(key: str) -> NotFound:
    return NotFound(f"there is no image {key}", reason="IMAGE_NOT_FOUND")


def _taken(key: str) -> AlreadyExists:
    return AlreadyExists(f"{key} has another image", reason="KEY_TAKEN")
