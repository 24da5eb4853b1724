"""Open connections, lent to one user at a time.

asyncpg has a pool, which takes longer than most of our statements: it makes a task for each loan, another for its end,
and an object that stands for the connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WAIT_SECONDS = 2.0
"""The longest that anybody waits for a connection."""

IDLE_SECONDS = 300.0
"""What nobody needed for so long is closed: a firewall in between may have forgotten it."""

_CLOSE_SECONDS = 5.0


class Pool:
    """At most `size` connections. The one that came back last is lent first, so that those beyond the need rest.

    Nothing is reset in between: nobody here sets, listens or locks for the length of a session.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        """Open connections with `connect` when they are needed."""
        self._connect = connect
        self._size = size
        self._open = 0  # lent, idle, or being opened or closed
        self._idle: deque[tuple[Connection, float]] = deque()  # and since when; the last is the last that came back
        self._lent: dict[Connection, int] = {}  # and its generation
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._generation = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self) -> Connection:
        """A connection, to be given back. Raises TimeoutError, and what `connect` raises."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return self._lend(connection)
            self._open -= 1
        async with asyncio.timeout(WAIT_SECONDS):
            if self._open == self._size:
                return await self._handed()
            self._open += 1
            return await self._opened()

    def give_back(self, connection: Connection, *, is_good: bool = True) -> None:
        """End a loan. What is not good, or in the middle of a transaction, is closed."""
        generation = self._lent.pop(connection)
        if connection.is_closed():
            self._free()
        elif not is_good or generation != self._generation or connection.is_in_transaction():
            self._retire(connection)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(self._lend(connection))
        else:
            now = asyncio.get_running_loop().time()
            self._idle.append((connection, now))
            if now - self._idle[0][1] > IDLE_SECONDS:
                self._retire(self._idle.popleft()[0])

    def expire(self) -> None:
        """Close all: those that are lent when they come back."""
        self._generation += 1
        while self._idle:
            self._retire(self._idle.pop()[0])

    async def close(self) -> None:
        """Close all; what is lent is cut off."""
        self.expire()
        for connection in self._lent:
            connection.terminate()
        if self._closing:
            await asyncio.wait(set(self._closing))

    def _lend(self, connection: Connection) -> Connection:
        self._lent[connection] = self._generation
        return connection

    async def _opened(self) -> Connection:
        """A new connection in a place that was counted already."""
        generation = self._generation
        try:
            connection = await self._connect()
        except BaseException:
            self._free()
            raise
        self._lent[connection] = generation
        return connection

    async def _handed(self) -> Connection:
        """A connection that comes back, or a new one in the place of one that was closed."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            connection = await waiter
        except asyncio.CancelledError:
            # It may have come in the same moment.
            if waiter.done() and not waiter.cancelled():
                connection = waiter.result()
                if connection is not None:
                    self.give_back(connection)
                else:
                    self._free()
            raise
        return connection if connection is not None else await self._opened()

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _free(self) -> None:
        """The place of a connection goes to whoever waits for one."""
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)
        else:
            self._open -= 1

    def _retire(self, connection: Connection) -> None:
        task = asyncio.create_task(self._close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, connection: Connection) -> None:
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection.terminate()
        finally:
            self._free()
