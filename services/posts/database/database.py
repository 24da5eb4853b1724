"""PostgreSQL: a connection pool, retried transactions, and errors that a caller understands."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from rpc import errors
from services.posts.database.address import parse
from services.posts.database.failures import translated

log = logging.getLogger(__name__)

T = TypeVar("T")
Record = asyncpg.Record
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_SECONDS = 5.0
ACQUIRE_TIMEOUT_SECONDS = 2.0
_STATEMENT_TIMEOUT_SECONDS = 10.0
_IDLE_SECONDS = 300.0
_CLOSE_SECONDS = 5.0
_TRIES = 4

IS_READ_ONLY = "SELECT current_setting('transaction_read_only')::boolean"

# Enforced by the server, because a client that hangs or has died cannot enforce anything.
_SERVER_SETTINGS = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}

_READERS_STATEMENT_TIMEOUT = "2s"


class Database:
    """A pool of connections. Methods raise Unavailable if PostgreSQL cannot serve, Aborted after repeated conflicts.

    A statement or transaction that has begun is completed even if its caller is cancelled. An interrupted connection
    must be closed, and PostgreSQL needs longer to open one than to run most statements: if calls exceed their deadlines
    because the machine is overloaded, reconnecting would make the overload permanent.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, for_readers: bool = False) -> None:
        """Use `pool`. `for_readers`: see `connected`."""
        self._pool = pool
        self._for_readers = for_readers
        self._begun: set[asyncio.Task[Any]] = set()

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, and again after a conflict with another one: `work` must allow repetition."""

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
        """The number of rows that one statement changed."""
        status: str = await self._use(lambda connection: connection.execute(sql, *arguments))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def check(self) -> bool:
        """Whether the database accepts writes. Raises Unavailable if it does not answer."""
        if await self.fetchval(IS_READ_ONLY):
            await self._leave_demoted()
            return False
        return True

    async def _use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` on a connection to its end. A caller that is cancelled only stops waiting for it."""
        with translated():
            try:
                async with asyncio.timeout(ACQUIRE_TIMEOUT_SECONDS):  # acquire(timeout=...) would start a task
                    connection = await self._pool.acquire()
            except TimeoutError:
                if self._for_readers and self._pool.get_size() == self._pool.get_max_size():
                    raise errors.ResourceExhausted(
                        "too many readers at once; try again", reason="READERS_BUSY", retry_after_seconds=1.0
                    ) from None
                raise  # the database did not open one in time
        task = asyncio.create_task(self._work(connection, work))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)

    async def _work(self, connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            with self._translated():
                return await work(connection)
        except errors.Unavailable as error:
            if error.reason == "DATABASE_READ_ONLY":
                await self._leave_demoted()
            elif error.reason == "DATABASE_UNAVAILABLE":
                with contextlib.suppress(asyncpg.InterfaceError):  # it was closed and has left the pool already
                    connection.terminate()
            raise
        finally:
            # A connection that was lost meanwhile must not hide the result.
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self._pool.release(connection)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """`translated`, but a statement of a reader that took too long is not worth a retry: it would take as long."""
        try:
            with translated():
                yield
        except errors.Unavailable as error:
            if self._for_readers and error.reason == "DATABASE_TIMEOUT":
                raise errors.DeadlineExceeded(error.message, reason=error.reason) from error
            raise

    async def _leave_demoted(self) -> None:
        """The primary was demoted: make every connection reconnect, which finds the new primary."""
        log.warning("the database is read-only; connections expire")
        await self._pool.expire_connections()


async def _keep_session(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Reset nothing when a connection returns: no statement here changes the session, and a reset is a round trip."""


@contextlib.asynccontextmanager
async def connected(
    url: str, name: str, *, size: int, wait_seconds: float, for_readers: bool = False, work_mem: str = ""
) -> AsyncIterator[Database]:
    """A pool of at most `size` connections, open for as long as the block lasts.

    `name` appears in pg_stat_activity. `for_readers`: PostgreSQL plans a statement once for all values: planning
    takes longer than reading a page. A statement ends after two seconds, and a caller that should not repeat it gets
    DeadlineExceeded, or ResourceExhausted without a free connection. `work_mem`: PostgreSQL's setting, if not its
    default. Raises Unavailable if no database answers within `wait_seconds`.
    """
    settings = {**_SERVER_SETTINGS, "application_name": name}
    if for_readers:
        settings["statement_timeout"] = _READERS_STATEMENT_TIMEOUT
        settings["plan_cache_mode"] = "force_generic_plan"
    if work_mem:
        settings["work_mem"] = work_mem
    address = parse(url)
    pool = asyncpg.create_pool(
        address.url,
        **address.arguments,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=_IDLE_SECONDS,
        timeout=address.connect_seconds or CONNECT_TIMEOUT_SECONDS,
        command_timeout=_STATEMENT_TIMEOUT_SECONDS,
        target_session_attrs=SessionAttribute.read_write,
        server_settings=settings,
        reset=_keep_session,
    )
    async with pool:
        database = Database(pool, for_readers=for_readers)
        try:
            await patiently(lambda: database.fetchval("SELECT 1"), wait_seconds)
            yield database
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await pool.close()  # a timeout terminates the remaining connections


async def connect(url: str, name: str) -> "asyncpg.Connection[Record]":
    """One connection outside any pool, without time limits for statements. Raises Unavailable."""
    address = parse(url)
    with translated():
        return await asyncpg.connect(
            address.url,
            **address.arguments,
            timeout=address.connect_seconds or CONNECT_TIMEOUT_SECONDS,
            target_session_attrs=SessionAttribute.read_write,
            server_settings={"application_name": name, "timezone": "UTC"},
        )


async def patiently(attempt: Callable[[], Awaitable[T]], wait_seconds: float) -> T:
    """The result of `attempt`, which is repeated for `wait_seconds` while it raises Unavailable."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait_seconds
    told = ""
    while True:
        try:
            return await attempt()
        except errors.Unavailable as error:
            if error.message != told:
                told = error.message
                log.warning("%s", told, extra={"cause": str(error.__cause__), "waiting_seconds": wait_seconds})
            if loop.time() >= ends:
                raise
            await asyncio.sleep(0.2)
