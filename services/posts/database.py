"""PostgreSQL: a pool whose limits the server enforces, retried transactions, errors that callers understand."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

from rpc import errors

log = logging.getLogger(__name__)

T = TypeVar("T")
Record = asyncpg.Record
Connection: TypeAlias = "PoolConnectionProxy[Record]"

ACQUIRE_TIMEOUT_SECONDS = 2.0
CONNECT_TIMEOUT_SECONDS = 5.0
_TRIES = 4

IS_READ_ONLY = "SELECT current_setting('transaction_read_only')::boolean"

# On the server, because a client that hangs or is gone cannot enforce anything.
_SERVER_SETTINGS = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, and dropped databases
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    OSError,
)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what PostgreSQL and asyncpg raise when they cannot serve into our errors; integrity errors pass."""
    try:
        yield
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
        raise errors.Aborted(
            "another change came in between; try again", reason="TRANSACTION_CONFLICT", retry_after_seconds=0.1
        ) from error
    except (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
        raise errors.Unavailable(
            "the database is too slow now", reason="DATABASE_TIMEOUT", retry_after_seconds=1.0
        ) from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise errors.Unavailable(
            "the database does not accept writes now", reason="DATABASE_READ_ONLY", retry_after_seconds=1.0
        ) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise errors.Unavailable(
            "the database refuses our user or password", reason="DATABASE_REFUSED", retry_after_seconds=5.0
        ) from error
    except _LOST as error:
        if isinstance(error, ValueError):  # asyncpg's own DataError: an argument of ours is wrong
            raise
        log.debug("database lost", exc_info=error)
        raise errors.Unavailable(
            "the database does not answer", reason="DATABASE_UNAVAILABLE", retry_after_seconds=1.0
        ) from error


class Database:
    """The pool. Every method raises Unavailable when the database cannot serve, Aborted after repeated conflicts."""

    def __init__(self, pool: "asyncpg.Pool[Record]") -> None:
        """Use an open pool."""
        self._pool = pool

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again when the database found a conflict: `work` must bear repetition."""
        for number in range(1, _TRIES + 1):
            try:
                async with self._connection() as connection:
                    async with connection.transaction():
                        return await work(connection)
            except errors.Aborted as error:
                if error.reason != "TRANSACTION_CONFLICT" or number == _TRIES:
                    raise
                await asyncio.sleep(random.uniform(0.005, 0.02) * 2**number)
        raise AssertionError("unreachable")

    async def fetch(self, sql: str, *arguments: Any) -> list[Record]:
        """All rows of one statement."""
        async with self._connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Record | None:
        """The first row of one statement."""
        async with self._connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first value of the first row of one statement."""
        async with self._connection() as connection:
            return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: Any) -> int:
        """How many rows one statement changed."""
        async with self._connection() as connection:
            status = await connection.execute(sql, *arguments)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def check(self) -> bool:
        """Whether the database answers and takes writes. Raises Unavailable when it does not answer."""
        if await self.fetchval(IS_READ_ONLY):
            await self._leave_demoted()
            return False
        return True

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            with translated():
                async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                    yield connection
        except errors.Unavailable as error:
            if error.reason == "DATABASE_READ_ONLY":
                await self._leave_demoted()
            raise

    async def _leave_demoted(self) -> None:
        """The primary was demoted under us: let every connection look for the new one."""
        log.warning("the database is read-only; connections expire")
        await self._pool.expire_connections()


@contextlib.asynccontextmanager
async def connected(url: str, name: str, *, size: int, wait_seconds: float) -> AsyncIterator[Database]:
    """A pool of at most `size` connections, open for as long as the block lasts.

    `name` appears in pg_stat_activity. Raises Unavailable when no database answers within `wait_seconds`.
    """
    pool = await patiently(lambda: _open_pool(url, name, size), wait_seconds)
    try:
        yield Database(pool)
    finally:
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _open_pool(url: str, name: str, size: int) -> "asyncpg.Pool[Record]":
    with translated():
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=10.0,
            reset=_as_it_is,
            target_session_attrs=SessionAttribute.read_write,
            server_settings={**_SERVER_SETTINGS, "application_name": name},
        )


async def _as_it_is(connection: "asyncpg.Connection[Record]") -> None:
    """Reset nothing when a connection comes back: asyncpg's way costs a round trip, and a third of a read's latency.

    Nobody here sets, listens or locks for the length of a session; open transactions are rolled back all the same.
    """


async def connect(url: str, name: str) -> "asyncpg.Connection[Record]":
    """One connection outside of any pool, without limits on statements. Raises Unavailable."""
    with translated():
        return await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            target_session_attrs=SessionAttribute.read_write,
            server_settings={"application_name": name, "timezone": "UTC"},
        )


async def patiently(attempt: Callable[[], Awaitable[T]], wait_seconds: float) -> T:
    """What `attempt` answers, tried again for `wait_seconds` while it raises Unavailable."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait_seconds
    while True:
        try:
            return await attempt()
        except errors.Unavailable:
            if loop.time() >= ends:
                raise
            await asyncio.sleep(0.2)
