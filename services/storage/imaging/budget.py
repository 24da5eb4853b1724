"""What images that are decoded at once may use together: processes and memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Units of one kind. Who cannot have them at once waits; urgent waiters are served before all others.

    For one event loop only. Nobody is overtaken within a queue, so that large requests are served too.
    """

    def __init__(self, total: int) -> None:
        """`total` units are free."""
        self._free = total
        self._urgent: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._others: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def held(self, units: int, *, urgent: bool = False) -> AsyncIterator[None]:
        """Hold `units`, which must not be more than the total, for the length of the block, and wait for them first."""
        await self._acquire(units, urgent)
        try:
            yield
        finally:
            self._release(units)

    async def _acquire(self, units: int, urgent: bool) -> None:
        queue = self._urgent if urgent else self._others
        granted = asyncio.get_running_loop().create_future()
        queue.append((units, granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release(units)
            raise

    def _release(self, units: int) -> None:
        self._free += units
        self._grant()

    def _grant(self) -> None:
        for queue in (self._urgent, self._others):
            while queue and (queue[0][1].done() or queue[0][0] <= self._free):
                units, granted = queue.popleft()
                if not granted.done():
                    self._free -= units
                    granted.set_result(None)
            if queue:
                return
