"""Moves images from the spool to the primary backend.

spool ──► primary (the same conditional put) ──► verified there ──► removed from the spool
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from frontispiece.storage.v1.images_pb2 import ImageState

from rpc.backoff import Backoff, Retries, sleep
from rpc.errors import DataLoss, Unavailable
from services.storage.backends.base import Backend
from services.storage.backends.spool import Spool
from services.storage.readiness import Readiness

log = logging.getLogger(__name__)

_MOVES_AT_ONCE = 4
_INTERVAL_SECONDS = 2.0
_BACKOFF = Backoff(1.0, 300.0, jitter="equal")


class Mover:
    """Moves what is in the spool while the primary works. An image that fails is tried again later, for ever."""

    def __init__(self, primary: Backend, spool: Spool, readiness: Readiness) -> None:
        """`readiness` watches the primary."""
        self._primary = primary
        self._spool = spool
        self._readiness = readiness
        self._retries: dict[str, Retries] = {}
        self._next_attempts: dict[str, float] = {}  # by key, on the monotonic clock

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Move images for the length of the block."""
        found = self._spool.spooled()
        if found.count:
            log.warning("there are images in the spool", extra={"count": found.count, "bytes": found.size_bytes})
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await sleep(_INTERVAL_SECONDS, self._spool.arrived)
            self._spool.arrived.clear()
            while self._readiness.status.healthy and (batch := self._due()):
                await asyncio.gather(*(self._move(key) for key in batch))

    def _due(self) -> list[str]:
        now = time.monotonic()
        due = [key for key in self._spool.spooled_keys() if self._next_attempts.get(key, 0.0) <= now]
        return due[:_MOVES_AT_ONCE]

    async def _move(self, key: str) -> None:
        """Move one image. After any error it stays in the spool."""
        try:
            image, data = await self._spool.load(key)
            with data:
                await self._primary.put(image, data)
            async with self._spool.move_lock(key):
                await self._settle(key)
        except Exception as error:
            self._postpone(key, error)
        else:
            self._retries.pop(key, None)
            self._next_attempts.pop(key, None)
            log.info("image moved", extra={"key": key, "spooled": self._spool.spooled().count})

    async def _settle(self, key: str) -> None:
        """Remove an image from the spool after it was found complete in the primary, and published if it is here."""
        here, there = await self._spool.stat(key), await self._primary.stat(key)
        if not here.is_same_upload(there):
            raise DataLoss(f"the primary backend has other bytes for {key}", reason="CHECKSUM_MISMATCH")
        # Never from published to draft: the image here may be a repeated upload of one that was published long ago.
        published = ImageState.IMAGE_STATE_PUBLISHED
        if here.state == published and there.state != published:
            await self._primary.set_state(key, here.state)
        await self._spool.remove(key)

    def _postpone(self, key: str, error: Exception) -> None:
        retries = self._retries.setdefault(key, Retries(_BACKOFF))
        self._next_attempts[key] = time.monotonic() + retries.next_delay()
        extra = {"key": key, "tries": retries.failures}
        if isinstance(error, Unavailable):
            self._readiness.trigger_check()
            log.warning("an image cannot be moved yet: %s", error, extra=extra)
        else:
            # The image is not deleted: an operator must look at it, and until then it is served from the spool.
            log.error("an image cannot be moved", extra=extra, exc_info=error)
