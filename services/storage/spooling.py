"""A backend that never loses an image it took: what the primary does not take waits in a spool and moves by itself.

put ──► primary works? ──yes──► primary ──fails──┐
              └──no──────────────────────────────┴──► spool (data, record, both fsynced) ──► answer
mover: spool ──► primary (the same conditional put) ──► verified there ──► removed here
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

from rpc import context
from rpc.errors import AlreadyExists, DataLoss, NotFound, RpcError, Unavailable
from services.storage.backends.base import Backend
from services.storage.backends.spool import Spool
from services.storage.breaker import Breaker
from services.storage.models import BackendKind, ByteRange, ImageState, SpoolUse, StoredImage
from services.storage.readiness import Health

log = logging.getLogger(__name__)

PUT_SECONDS = 8.0
"""How long the primary has for a put before the spool takes over."""

SPOOL_SECONDS = 2.0
"""Kept back from the caller's deadline for the write to the spool."""

KEYS_SECONDS = 2.0
"""How long the primary has to tell which keys there are."""

_MOVES_AT_ONCE = 4
_LOOK_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 300.0


class SpoolingBackend:
    """A primary backend, a spool, and what an earlier configuration kept on a disk (`older`, only read)."""

    def __init__(self, primary: Backend, spool: Spool, health: Health, older: Backend | None = None) -> None:
        """`health` watches the primary. The backends belong to this one from now on and are closed by it."""
        self.kind: BackendKind = primary.kind
        self._primary = primary
        self._spool = spool
        self._older = older
        self._health = health
        self._breaker = Breaker()
        self._wake = asyncio.Event()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._failures: dict[str, tuple[int, float]] = {}  # key: how often it failed to move, when to try again

    async def check(self) -> None:
        """Whether the primary works."""
        await self._primary.check()

    async def ping(self) -> None:
        """Whether the primary seems to work."""
        await self._primary.ping()

    async def put(self, image: StoredImage, data: bytes) -> StoredImage:
        """Keep an image: in the primary, else in the spool. Raises ResourceExhausted when there is no room there."""
        if not self._spool.has(image.key) and self._health.condition.healthy and self._breaker.closed:
            with suppress(_PrimaryFailed):
                return await self._put_primary(image, data)
        stored = await self._spool.put(image, data)
        self._wake.set()
        return stored

    async def stat(self, key: str) -> StoredImage:
        """What is known of an image: of the spool first, for an image leaves it only when it is in the primary."""
        for backend, last in self._places(key):
            try:
                return await backend.stat(key)
            except NotFound:
                if last:
                    raise
        raise AssertionError("the primary is always a place")

    async def keys_in(self, folder: str) -> list[str]:
        """Keys of images in a folder, wherever they are. While the primary fails, those in it are left out."""
        found = await self._spool.keys_in(folder)
        if not found and self._health.condition.healthy and self._breaker.closed:
            found += await self._keys_in_primary(folder)
        if self._older is not None:
            found += await self._older.keys_in(folder)
        return found

    async def read(self, key: str, wanted: ByteRange) -> AsyncIterator[bytes]:
        """The bytes of a range, from where they are."""
        for backend, last in self._places(key):
            begun = False
            try:
                async for piece in backend.read(key, wanted):
                    begun = True
                    yield piece
                return
            except NotFound:
                if begun or last:
                    raise

    async def set_state(self, key: str, state: ImageState) -> StoredImage:
        """Mark an image where it is; one on its way takes its mark along."""
        async with self._lock(key):
            for backend, last in self._places(key):
                try:
                    return await backend.set_state(key, state)
                except NotFound:
                    if last:
                        raise
        raise AssertionError("the primary is always a place")

    async def direct_url(self, key: str, ttl_seconds: float) -> str | None:
        """A URL at the primary; None for what waits here."""
        return None if self._spool.has(key) else await self._primary.direct_url(key, ttl_seconds)

    async def holds_locally(self, key: str) -> bool:
        """Whether it waits here, or lies where an earlier configuration put it."""
        return self._spool.has(key) or (self._older is not None and await self._older.holds_locally(key))

    def waiting(self) -> SpoolUse:
        """What waits in the spool."""
        return self._spool.waiting()

    async def close(self) -> None:
        """Close the backends."""
        for backend in (self._primary, self._spool, self._older):
            if backend is not None:
                await backend.close()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Move what waits for as long as the block lasts."""
        waiting = self.waiting()
        if waiting.count:
            log.warning("images wait in the spool", extra={"count": waiting.count, "bytes": waiting.size_bytes})
        task = asyncio.create_task(self._move_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keys_in_primary(self, folder: str) -> list[str]:
        left = context.remaining_seconds()
        seconds = KEYS_SECONDS if left is None else min(KEYS_SECONDS, (left - SPOOL_SECONDS) / 2)
        try:
            async with asyncio.timeout(seconds):
                return await self._primary.keys_in(folder)
        except (RpcError, TimeoutError) as error:
            self._health.suspect()
            why = str(error) or f"no answer within {seconds:.1f} s"
            log.warning("the primary backend does not tell its keys: %s", why, extra={"folder": folder})
            return []

    async def _put_primary(self, image: StoredImage, data: bytes) -> StoredImage:
        left = context.remaining_seconds()
        seconds = PUT_SECONDS if left is None else min(PUT_SECONDS, left - SPOOL_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                stored = await self._primary.put(image, data)
        except AlreadyExists:
            raise
        except (RpcError, TimeoutError) as error:
            if seconds >= PUT_SECONDS / 2:  # else it says more about the caller's patience than about the primary
                self._breaker.failed()
            self._health.suspect()
            why = str(error) or f"no answer within {seconds:.1f} s"
            log.warning("the primary backend failed, the image goes to the spool: %s", why, extra={"key": image.key})
            raise _PrimaryFailed from error
        self._breaker.succeeded()
        return stored

    def _places(self, key: str) -> Iterator[tuple[Backend, bool]]:
        """Where an image may be, in the order to look, and whether it is the last place."""
        if self._spool.has(key):
            yield self._spool, False
        yield self._primary, self._older is None
        if self._older is not None:
            yield self._older, True

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _move_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            while self._health.condition.healthy and (batch := self._due()):
                await asyncio.gather(*(self._move(key) for key in batch))

    def _due(self) -> list[str]:
        now = time.monotonic()
        due = [key for key in self._spool.waiting_keys() if self._failures.get(key, (0, 0.0))[1] <= now]
        return due[:_MOVES_AT_ONCE]

    async def _move(self, key: str) -> None:
        """Move one image. Whatever goes wrong, it stays where it is and is tried again."""
        try:
            image, data = await self._spool.load(key)
            await self._primary.put(image, data)
            async with self._lock(key):
                await self._settle(key)
        except Exception as error:
            self._put_off(key, error)
        else:
            self._failures.pop(key, None)
            log.info("image moved", extra={"key": key, "backend": self.kind.value, "waiting": self.waiting().count})

    async def _settle(self, key: str) -> None:
        """Remove an image here after it was found whole, and published if it was, in the primary."""
        here, there = await self._spool.stat(key), await self._primary.stat(key)
        if (here.sha256, here.size_bytes) != (there.sha256, there.size_bytes):
            raise DataLoss(f"the primary backend has other bytes for {key}", reason="CHECKSUM_MISMATCH")
        # Only upwards: a draft here may be a retry of an upload that was published long ago.
        if here.state is ImageState.PUBLISHED and there.state is not ImageState.PUBLISHED:
            await self._primary.set_state(key, here.state)
        await self._spool.remove(key)

    def _put_off(self, key: str, error: Exception) -> None:
        count = self._failures.get(key, (0, 0.0))[0] + 1
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2.0**count) * random.uniform(0.5, 1)
        self._failures[key] = (count, time.monotonic() + pause)
        if isinstance(error, Unavailable):
            self._health.suspect()
            log.warning("an image cannot be moved yet: %s", error, extra={"key": key, "tries": count})
        else:
            # Nothing is deleted: a person must look at it, and until then it is served from here.
            log.error("an image cannot be moved", extra={"key": key, "tries": count}, exc_info=error)


class _PrimaryFailed(Exception):
    """The primary did not take an image."""
