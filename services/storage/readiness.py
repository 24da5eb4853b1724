"""Whether the backend works, remembered from the last check and from what calls have met."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from rpc.errors import RpcError, Unavailable
from services.storage.backends.base import Backend, BackendRefused
from services.storage.models import Condition

log = logging.getLogger(__name__)

_CHECK_SECONDS = 5.0
_PAUSE_SECONDS = 1.0  # between two checks, however many calls fail


class Health:
    """The condition of a backend. Asking costs nothing: a task checks now and then, and failed writes are noted."""

    def __init__(self, backend: Backend, interval_seconds: float, fallback: Backend | None = None) -> None:
        """`interval_seconds`: between two checks; `fallback`: takes images when the backend does not."""
        self._backend = backend
        self._interval = interval_seconds
        self._fallback = fallback
        self._fallback_works = False
        self._wake = asyncio.Event()
        self._condition = Condition(healthy=False, reason="not checked yet")

    @property
    def condition(self) -> Condition:
        """As last seen."""
        return self._condition

    async def is_ready(self) -> bool:
        """Whether uploads are taken, be it by the fallback; for rpc.server.serve."""
        return self._condition.healthy or self._fallback_works

    def suspect(self) -> None:
        """A write has failed: check now. One failure is no verdict, perhaps its caller had little time."""
        self._wake.set()

    async def start(self) -> None:
        """The first check. Raises BackendRefused; a backend that does not answer yet is only unhealthy.

        With images waiting in the fallback, a refusal is no reason to stop: they must stay readable.
        """
        try:
            await self._limited(self._backend.check())
        except BackendRefused as error:
            if self._fallback is None or not self._fallback.waiting().count:
                raise
            self._set(Condition(healthy=False, reason=str(error)))
        except RpcError as error:
            self._set(Condition(healthy=False, reason=error.message))
        else:
            self._set(Condition(healthy=True))
        await self._look_at_fallback()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Check every `interval_seconds` for as long as the block lasts."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """Check now: by a write after a failure, else by the cheaper way."""
        thorough = self._wake.is_set() or not self._condition.healthy
        self._wake.clear()
        try:
            await self._limited(self._backend.check() if thorough else self._backend.ping())
        except (RpcError, BackendRefused) as error:
            self._set(Condition(healthy=False, reason=str(error)))
        except Exception as error:
            log.exception("a health check failed in an unexpected way", exc_info=error)
            self._set(Condition(healthy=False, reason="internal error"))
        else:
            self._set(Condition(healthy=True))
        await self._look_at_fallback()

    async def _look_at_fallback(self) -> None:
        """Only while it is needed."""
        if self._fallback is None or self._condition.healthy:
            return
        try:
            await self._limited(self._fallback.check())
        except RpcError as error:
            log.error("the fallback does not work either: %s", error.message)
            self._fallback_works = False
        else:
            self._fallback_works = True

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            await self.look()
            await asyncio.sleep(min(_PAUSE_SECONDS, self._interval))

    async def _limited(self, check: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check
        except TimeoutError as error:
            raise Unavailable(f"no answer within {_CHECK_SECONDS:g} s", reason="BACKEND_SILENT") from error

    def _set(self, condition: Condition) -> None:
        if condition != self._condition:
            if condition.healthy:
                log.info("the backend works")
            else:
                log.warning("the backend does not work: %s", condition.reason)
        self._condition = condition
