"""Whether images can be stored: the health of the primary backend, the circuit breaker and the spool."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from rpc.backoff import Backoff, sleep
from rpc.errors import RpcError, Unavailable
from services.storage.backends.base import Backend, BackendRefused
from services.storage.backends.spool import Spool
from services.storage.models import HealthStatus

log = logging.getLogger(__name__)

BREAKER_FAILURES = 3
_BREAKER_PAUSE = Backoff(2.0, 30.0, jitter="equal")
_CHECK_SECONDS = 5.0
_MIN_INTERVAL_SECONDS = 1.0


class Breaker:
    """A circuit breaker that opens after BREAKER_FAILURES failed calls in succession.

    It helps when the health check succeeds and the calls fail.
    """

    def __init__(self) -> None:
        """Closed: calls are allowed."""
        self._failures = 0
        self._open_until = 0.0

    @property
    def closed(self) -> bool:
        """Whether a call may be tried."""
        return time.monotonic() >= self._open_until

    def succeeded(self) -> None:
        """Note that a call has succeeded."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self) -> None:
        """Note that a call has failed. Each failure from the last allowed one on makes the pause longer."""
        self._failures += 1
        if self._failures >= BREAKER_FAILURES:
            self._open_until = time.monotonic() + _BREAKER_PAUSE.delay(self._failures - BREAKER_FAILURES + 1)


class Readiness:
    """Remembers whether the primary backend works. A background task checks it, so that asking costs nothing."""

    def __init__(self, primary: Backend, interval_seconds: float, spool: Spool | None = None) -> None:
        """`interval_seconds` is the time between two checks; `spool` stores images while the primary fails."""
        self.breaker = Breaker()
        self._primary = primary
        self._interval = interval_seconds
        self._spool = spool
        self._spool_works = False
        self._check_requested = asyncio.Event()
        self._status = HealthStatus(healthy=False, reason="not checked yet")

    @property
    def status(self) -> HealthStatus:
        """The health of the primary backend at the last check."""
        return self._status

    @property
    def primary_usable(self) -> bool:
        """Whether a call to the primary backend is worth trying."""
        return self._status.healthy and self.breaker.closed

    async def is_ready(self) -> bool:
        """Whether uploads are accepted, be it by the spool; for rpc.server.serve."""
        return self._status.healthy or self._spool_works

    def trigger_check(self) -> None:
        """Check soon. A single failed write only triggers a check: it may have had a short deadline."""
        self._check_requested.set()

    async def start(self) -> None:
        """The first check. Raises BackendRefused; a backend that does not respond is only unhealthy.

        With images in the spool a refusal is not raised: the images must stay readable.
        """
        try:
            await _limited(self._primary.check())
        except BackendRefused as error:
            if self._spool is None or not self._spool.spooled().count:
                raise
            self._set(HealthStatus(healthy=False, reason=str(error)))
        except RpcError as error:
            self._set(HealthStatus(healthy=False, reason=error.message))
        else:
            self._set(HealthStatus(healthy=True))
        await self._check_spool()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Check regularly for the length of the block."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await sleep(self._interval, self._check_requested)
            await self._check()
            await asyncio.sleep(min(_MIN_INTERVAL_SECONDS, self._interval))

    async def _check(self) -> None:
        """Check by a write after a failure, otherwise by a read."""
        by_write = self._check_requested.is_set() or not self._status.healthy
        self._check_requested.clear()
        try:
            await _limited(self._primary.check() if by_write else self._primary.ping())
        except (RpcError, BackendRefused) as error:
            self._set(HealthStatus(healthy=False, reason=str(error)))
        except Exception as error:
            log.exception("a health check failed unexpectedly", exc_info=error)
            self._set(HealthStatus(healthy=False, reason="internal error"))
        else:
            self._set(HealthStatus(healthy=True))
        await self._check_spool()

    async def _check_spool(self) -> None:
        """Check the spool while the primary fails."""
        if self._spool is None or self._status.healthy:
            return
        try:
            await _limited(self._spool.check())
        except RpcError as error:
            log.error("the spool does not work either: %s", error.message)
            self._spool_works = False
        else:
            self._spool_works = True

    def _set(self, status: HealthStatus) -> None:
        if status != self._status:
            if status.healthy:
                log.info("the backend works")
            else:
                log.warning("the backend does not work: %s", status.reason)
        self._status = status


async def _limited(check: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check
    except TimeoutError as error:
        raise Unavailable(f"no response within {_CHECK_SECONDS:g} s", reason="BACKEND_SILENT") from error
