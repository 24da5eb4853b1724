"""Connections: never more than allowed, shared fairly, and not used again after something went wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc import errors
from services.posts.database import database as module
from services.posts.database.database import Connection, Database, connected

SIZE = 2
NAME = "test-pool"
OPEN = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{NAME}'"
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{NAME}'"
PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    async with connected(record_url, NAME, size=SIZE, wait_seconds=5) as opened:
        yield opened


async def occupy(database: Database, count: int = SIZE) -> tuple[asyncio.Event, list[asyncio.Task[Any]]]:
    """Hold connections in transactions until the event is set."""
    done = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def hold(connection: Connection) -> int:
        begun.release()
        await done.wait()
        return int(await connection.fetchval("SELECT 1"))

    holders = [asyncio.create_task(database.transaction(hold)) for _ in range(count)]
    for _ in range(count):
        await begun.acquire()
    return done, holders


async def test_many_callers_share_few_connections(database: Database, sql: Any) -> None:
    statement = "SELECT $1::int FROM pg_sleep(0.002)"
    numbers = await asyncio.gather(*(database.fetchval(statement, number) for number in range(60)))
    assert numbers == list(range(60))
    assert await sql.fetchval(OPEN) <= SIZE


async def test_quiet_pool_uses_one_connection(database: Database) -> None:
    assert len({await database.fetchval(PID) for _ in range(20)}) == 1


async def test_caller_that_stops_waiting_takes_no_connection(database: Database) -> None:
    done, holders = await occupy(database)
    gone, patient = (
        asyncio.create_task(database.fetchval("SELECT 1")),
        asyncio.create_task(database.fetchval("SELECT 2")),
    )
    await asyncio.sleep(0)
    done.set()
    gone.cancel()
    assert await patient == 2
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await asyncio.gather(*holders) == [1] * SIZE
    done, holders = await occupy(database)  # all connections are there
    done.set()
    await asyncio.gather(*holders)


async def test_caller_that_waits_too_long_gets_unavailable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    done, holders = await occupy(database)
    with monkeypatch.context() as changed, pytest.raises(errors.Unavailable) as raised:
        changed.setattr(module, "ACQUIRE_TIMEOUT_SECONDS", 0.05)  # not before: opening a connection may take longer
        await database.fetchval("SELECT 1")
    assert raised.value.retry_after_seconds
    done.set()
    await asyncio.gather(*holders)
    assert await database.fetchval("SELECT 1") == 1


async def test_failure_to_connect_frees_its_place(record_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(record_url, NAME, size=SIZE, wait_seconds=5) as database:
        pool = database._pool
        good = pool._connect_args
        await pool.expire_connections()
        pool._connect_args = ["postgresql://nobody@127.0.0.1:1/none"]
        for _ in range(SIZE + 1):
            with pytest.raises(errors.Unavailable):
                await database.fetchval("SELECT 1")
        pool._connect_args = good
        done, holders = await occupy(database)
        done.set()
        assert await asyncio.gather(*holders) == [1] * SIZE


@pytest.mark.parametrize("harm", ["closed-by-us", "closed-by-server", "open-transaction", "expired"])
async def test_damaged_connection_is_not_used_again(database: Database, sql: Any, harm: str) -> None:
    async def damage(connection: Connection) -> int:
        pid = int(await connection.fetchval(PID))
        if harm == "closed-by-us":
            await connection.close()
        elif harm == "closed-by-server":
            await sql.fetch(END)
        elif harm == "open-transaction":
            await connection.execute("CREATE TEMP TABLE harm ON COMMIT DROP AS SELECT 1")
        else:
            await database._pool.expire_connections()
        return pid

    if harm == "open-transaction":
        with pytest.raises(ZeroDivisionError):
            await database.transaction(lambda connection: _fail(damage(connection)))
    else:
        await database._use(damage)
        await recovered(database)
    assert await database.fetchval("SELECT to_regclass('harm') IS NULL")
    done, holders = await occupy(database)
    done.set()
    assert await asyncio.gather(*holders) == [1] * SIZE


async def recovered(database: Database) -> int:
    """A query, repeated while the pool still finds connections that the server has just ended."""
    async with asyncio.timeout(10):
        while True:
            try:
                return int(await database.fetchval(PID))
            except errors.Unavailable:
                await asyncio.sleep(0.01)


async def _fail(work: Any) -> None:
    await work
    raise ZeroDivisionError


async def test_connection_that_dies_while_idle_is_replaced(database: Database, sql: Any) -> None:
    before = await database.fetchval(PID)
    await sql.fetch(END)
    assert await recovered(database) != before


class TestReaders:
    """The pools of anonymous readers: what takes too long is not worth a retry, so it is not UNAVAILABLE."""

    async def test_a_statement_that_takes_too_long_ends(self, record_url: str) -> None:
        async with connected(record_url, NAME, size=1, wait_seconds=5, for_readers=True) as reads:
            with pytest.raises(errors.DeadlineExceeded) as raised:
                await reads.fetchval("SELECT pg_sleep(20)")
            assert raised.value.reason == "DATABASE_TIMEOUT"
            assert await reads.fetchval("SELECT 1") == 1

    async def test_without_a_free_connection_a_reader_is_sent_away(
        self, record_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with connected(record_url, NAME, size=1, wait_seconds=5, for_readers=True) as reads:
            done, holders = await occupy(reads, 1)
            monkeypatch.setattr(module, "ACQUIRE_TIMEOUT_SECONDS", 0.1)
            with pytest.raises(errors.ResourceExhausted) as raised:
                await reads.fetchval("SELECT 1")
            assert raised.value.reason == "READERS_BUSY"
            assert raised.value.retry_after_seconds
            done.set()
            await asyncio.gather(*holders)

    async def test_a_database_that_opens_no_connection_in_time_is_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is no lack of free connections: at the start, `connected` tries again."""
        monkeypatch.setattr(module, "ACQUIRE_TIMEOUT_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/z"
            with pytest.raises(errors.Unavailable) as raised:
                async with connected(url, NAME, size=1, wait_seconds=0.3, for_readers=True):
                    pass
        assert raised.value.reason == "DATABASE_TIMEOUT"

    async def test_a_statement_of_a_reader_ends_after_two_seconds(self, record_url: str) -> None:
        async with connected(record_url, NAME, size=1, wait_seconds=5, for_readers=True) as reads:
            assert await reads.fetchval("SHOW statement_timeout") == "2s"
