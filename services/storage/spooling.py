"""A backend that stores images in a spool while its primary backend fails.

put ──► primary usable? ──yes──► primary ──fails──┐
              └──no───────────────────────────────┴──► spool (data, then sidecar, both fsynced) ──► response

services.storage.mover moves the images from the spool to the primary.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress

from frontispiece.storage.v1.images_pb2 import ImageState

from rpc import context
from rpc.errors import AlreadyExists, NotFound, RpcError
from services.storage.backends.base import Backend
from services.storage.backends.spool import Spool
from services.storage.content import Content
from services.storage.models import ByteRange, SpoolUsage, StoredImage
from services.storage.readiness import Readiness

log = logging.getLogger(__name__)

PUT_SECONDS = 8.0
"""How long a put to the primary may take before the spool is used."""

SPOOL_SECONDS = 2.0
"""Reserved from the caller's deadline for the write to the spool."""

KEYS_SECONDS = 2.0
"""How long the primary may take to list keys."""


class SpoolingBackend:
    """A primary backend, its spool, and the read-only folder of an earlier configuration (`legacy`)."""

    def __init__(self, primary: Backend, spool: Spool, readiness: Readiness, legacy: Backend | None = None) -> None:
        """`readiness` watches the primary. This backend closes the other backends."""
        self.kind = primary.kind
        self.scratch = spool.scratch
        self._primary = primary
        self._spool = spool
        self._legacy = legacy
        self._readiness = readiness

    async def check(self) -> None:
        """Check the primary by a write."""
        await self._primary.check()

    async def ping(self) -> None:
        """Check the primary by a read."""
        await self._primary.ping()

    async def put(self, image: StoredImage, data: Content) -> StoredImage:
        """Store an image in the primary, otherwise in the spool. Raises ResourceExhausted if the spool is full."""
        if not self._spool.has(image.key) and self._readiness.primary_usable:
            with suppress(_PrimaryFailed):
                return await self._put_primary(image, data)
        stored = await self._spool.put(image, data)
        self._spool.arrived.set()
        return stored

    async def stat(self, key: str) -> StoredImage:
        """The description of an image. The spool is asked first: an image leaves it only for the primary."""
        for backend, is_last in self._places(key):
            try:
                return await backend.stat(key)
            except NotFound:
                if is_last:
                    raise
        raise AssertionError("the primary is always a place")

    async def keys_in(self, folder: str) -> list[str]:
        """Keys of images in a folder. While the primary fails, its keys are missing."""
        found = await self._spool.keys_in(folder)
        if not found and self._readiness.primary_usable:
            found += await self._keys_in_primary(folder)
        if self._legacy is not None:
            found += await self._legacy.keys_in(folder)
        return found

    async def read(self, key: str, wanted: ByteRange) -> AsyncGenerator[bytes]:
        """The bytes of a range, from the backend that has the image."""
        for backend, is_last in self._places(key):
            begun = False
            try:
                async for piece in backend.read(key, wanted):
                    begun = True
                    yield piece
                return
            except NotFound:
                if begun or is_last:
                    raise

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image where it is. An image in the spool keeps its mark when it moves."""
        async with self._spool.move_lock(key):
            for backend, is_last in self._places(key):
                try:
                    return await backend.set_state(key, state)
                except NotFound:
                    if is_last:
                        raise
        raise AssertionError("the primary is always a place")

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """A URL at the primary; None for an image in the spool."""
        return None if self._spool.has(key) else await self._primary.direct_url(key, ttl_seconds)

    def spooled(self) -> SpoolUsage:
        """The number and size of the images in the spool."""
        return self._spool.spooled()

    async def close(self) -> None:
        """Close the backends."""
        for backend in (self._primary, self._spool, self._legacy):
            if backend is not None:
                await backend.close()

    async def _keys_in_primary(self, folder: str) -> list[str]:
        left = context.remaining_seconds()
        seconds = KEYS_SECONDS if left is None else min(KEYS_SECONDS, (left - SPOOL_SECONDS) / 2)
        try:
            async with asyncio.timeout(seconds):
                return await self._primary.keys_in(folder)
        except (RpcError, TimeoutError) as error:
            self._readiness.trigger_check()
            why = str(error) or f"no response within {seconds:.1f} s"
            log.warning("the primary backend does not list its keys: %s", why, extra={"folder": folder})
            return []

    async def _put_primary(self, image: StoredImage, data: Content) -> StoredImage:
        left = context.remaining_seconds()
        seconds = PUT_SECONDS if left is None else min(PUT_SECONDS, left - SPOOL_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                stored = await self._primary.put(image, data)
        except AlreadyExists:
            raise
        except (RpcError, TimeoutError) as error:
            if seconds >= PUT_SECONDS / 2:  # a failure within a shorter time may be the fault of the deadline
                self._readiness.breaker.failed()
            self._readiness.trigger_check()
            why = str(error) or f"no response within {seconds:.1f} s"
            log.warning("the primary backend failed, the image goes to the spool: %s", why, extra={"key": image.key})
            raise _PrimaryFailed from error
        self._readiness.breaker.succeeded()
        return stored

    def _places(self, key: str) -> Iterator[tuple[Backend, bool]]:
        """The backends that may have an image, in the order to ask them, and whether it is the last one."""
        if self._spool.has(key):
            yield self._spool, False
        yield self._primary, self._legacy is None
        if self._legacy is not None:
            yield self._legacy, True


class _PrimaryFailed(Exception):
    """The primary did not store an image."""
