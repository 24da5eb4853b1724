"""PostgreSQL: a pool whose limits the server enforces, retried transactions, errors that callers understand."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from rpc import errors
from services.posts.database.pool import Connection, Pool

log = logging.getLogger(__name__)

T = TypeVar("T")
Record = asyncpg.Record

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
    except Exception as error:
        public = _translation(error)
        if public is None:
            raise
        raise public from error


def _translation(error: BaseException) -> errors.RpcError | None:
    if isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError):
        return errors.Aborted(
            "another change came in between; try again", reason="TRANSACTION_CONFLICT", retry_after_seconds=0.1
        )
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError):
        return _unavailable("the database is too slow now", "DATABASE_TIMEOUT")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return _unavailable("the database does not accept writes now", "DATABASE_READ_ONLY")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return _unavailable("the database refuses our user or password", "DATABASE_REFUSED", 5.0)
    # asyncpg's own DataError is a ValueError: an argument of ours is wrong.
    if isinstance(error, _LOST) and not isinstance(error, ValueError):
        log.debug("database lost", exc_info=error)
        return _unavailable("the database does not answer", "DATABASE_UNAVAILABLE")
    return None


def _unavailable(message: str, reason: str, retry_after_seconds: float = 1.0) -> errors.Unavailable:
    return errors.Unavailable(message, reason=reason, retry_after_seconds=retry_after_seconds)


def leave_demoted(pool: Pool) -> None:
    """The primary was demoted under us: let every connection look for the new one."""
    log.warning("the database is read-only; connections expire")
    pool.expire()


class Database:
    """The record. Every method raises Unavailable when PostgreSQL cannot serve, Aborted after repeated conflicts.

    What has begun is done to its end, also when its caller is cancelled: a connection that is interrupted must be
    closed, and a new one takes PostgreSQL longer than most of our statements. When calls run out of their deadlines
    because the machine is overloaded, that would be the end of serving anybody.
    """

    def __init__(self, pool: Pool) -> None:
        """Use a pool."""
        self._pool = pool
        self._begun: set[asyncio.Task[Any]] = set()

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again when the database found a conflict: `work` must bear repetition."""

        async def transacted(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        for number in range(1, _TRIES + 1):
            try:
                return await self._use(transacted)
            except errors.Aborted as error:
                if error.reason != "TRANSACTION_CONFLICT" or number == _TRIES:
                    raise
                await asyncio.sleep(random.uniform(0.005, 0.02) * 2**number)
        raise AssertionError("unreachable")

    async def fetch(self, sql: str, *arguments: Any) -> list[Record]:
        """All rows of one statement."""
        return await self._use(lambda connection: connection.fetch(sql, *arguments))

    async def fetchrow(self, sql: str, *arguments: Any) -> Record | None:
        """The first row of one statement."""
        return await self._use(lambda connection: connection.fetchrow(sql, *arguments))

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first value of the first row of one statement."""
        return await self._use(lambda connection: connection.fetchval(sql, *arguments))

    async def execute(self, sql: str, *arguments: Any) -> int:
        """How many rows one statement changed."""
        status: str = await self._use(lambda connection: connection.execute(sql, *arguments))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def _use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` on a connection, to its end; a caller that is cancelled only stops waiting for it."""
        try:
            connection = await self._pool.take()
        except Exception as error:
            raise _translation(error) or error from error
        task = asyncio.create_task(self._work(connection, work))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)

    async def _work(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            result = await work(connection)
        except BaseException as error:
            # One that was interrupted, or is lost, is not lent again.
            is_good = isinstance(error, Exception) and not isinstance(error, _LOST)
            self._pool.give_back(connection, is_good=is_good)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                leave_demoted(self._pool)
            public = _translation(error)
            if public is not None:
                raise public from error
            raise
        self._pool.give_back(connection)
        return result

    async def check(self) -> bool:
        """Whether the database answers and takes writes. Raises Unavailable when it does not answer."""
        if await self.fetchval(IS_READ_ONLY):
            leave_demoted(self._pool)
            return False
        return True


@contextlib.asynccontextmanager
async def connected(url: str, name: str, *, size: int, wait_seconds: float) -> AsyncIterator[Database]:
    """A pool of at most `size` connections, open for as long as the block lasts.

    `name` appears in pg_stat_activity. Raises Unavailable when no database answers within `wait_seconds`.
    """
    pool = Pool(lambda: _connect(url, name), size)
    database = Database(pool)
    try:
        await patiently(lambda: database.fetchval("SELECT 1"), wait_seconds)
        yield database
    finally:
        await pool.close()


async def _connect(url: str, name: str) -> Connection:
    return await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=10.0,
        target_session_attrs=SessionAttribute.read_write,
        server_settings={**_SERVER_SETTINGS, "application_name": name},
    )


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
