"""When PostgreSQL is slow, full, read-only or in conflict: a clear error, soon, and no harm."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest

from rpc import errors
from services.posts.database.database import Connection, Database, connected
from tests.posts.conftest import Client, StartPosts, reason

pytestmark = pytest.mark.usefixtures("own_database")


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    async with connected(record_url, "test", size=4, wait_seconds=5) as opened:
        yield opened


async def test_cancelled_caller_costs_no_connection(record_url: str) -> None:
    async with connected(record_url, "test", size=1, wait_seconds=5) as database:
        before = await database.fetchval("SELECT pg_backend_pid()")
        for _ in range(3):
            gone = asyncio.create_task(database.fetchval("SELECT pg_sleep(0.1)"))
            await asyncio.sleep(0.05)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            assert await database.fetchval("SELECT pg_backend_pid()") == before


async def test_transaction_of_cancelled_caller_is_completed(database: Database, sql: Any) -> None:
    await sql.execute("CREATE TABLE done (n int)")
    begun = asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO done VALUES (1)")
        begun.set()
        await connection.execute("SELECT pg_sleep(0.1)")
        await connection.execute("INSERT INTO done VALUES (2)")

    gone = asyncio.create_task(database.transaction(work))
    await begun.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(10):
        while await sql.fetchval("SELECT count(*) FROM done") != 2:
            await asyncio.sleep(0.01)


async def test_server_enforces_time_limits(database: Database) -> None:
    row = await database.fetchrow(
        "SELECT current_setting('statement_timeout') s, current_setting('lock_timeout') l,"
        " current_setting('idle_in_transaction_session_timeout') i"
    )
    assert row is not None
    assert tuple(row) == ("5s", "2s", "10s")


async def test_wait_for_a_lock_is_short(idle: Client, sql: Any) -> None:
    task = await idle.create()
    async with sql.transaction():
        await sql.execute("SELECT * FROM content_tasks FOR UPDATE")
        from frontispiece.posts.v1 import tasks_pb2 as t

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await idle.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id), timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(raised.value) == "DATABASE_TIMEOUT"


async def test_conflict_is_retried(database: Database, sql: Any) -> None:
    await sql.execute("CREATE TABLE pair (id int PRIMARY KEY, n int NOT NULL); INSERT INTO pair VALUES (1, 0), (2, 0)")

    async def add(order: tuple[int, int]) -> None:
        async def work(connection: Connection) -> None:
            for number in order:
                await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", number)
                await asyncio.sleep(0.05)

        await database.transaction(work)

    await asyncio.gather(add((1, 2)), add((2, 1)))  # each waits for the other: PostgreSQL ends one
    assert [row["n"] for row in await sql.fetch("SELECT n FROM pair ORDER BY id")] == [2, 2]


async def test_repeated_conflict_is_aborted(database: Database) -> None:
    tries = 0

    async def work(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        raise asyncpg.SerializationError("could not serialize")

    with pytest.raises(errors.Aborted):
        await database.transaction(work)
    assert tries == 4


async def test_demoted_server_is_left_and_found_again(idle: Client, sql: Any) -> None:
    """As at a failover: the server under the pool's open connections stops taking writes, later it takes them again."""
    await idle.create()
    await sql.execute("SET default_transaction_read_only = off")
    await sql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        await sql.execute("SELECT pg_reload_conf()")
        while not (reasons := await refusals(idle)):
            await asyncio.sleep(0.02)
        assert "DATABASE_READ_ONLY" in reasons or "DATABASE_UNAVAILABLE" in reasons
        # The demoted connections are left, and no server that takes writes is found.
        assert await refusals(idle) == ["DATABASE_UNAVAILABLE"]
        with pytest.raises(errors.Unavailable):
            await idle.app.database.check()
    finally:
        await sql.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await sql.execute("SELECT pg_reload_conf()")
    while await refusals(idle):
        await asyncio.sleep(0.02)
    assert await idle.app.database.check()


async def refusals(idle: Client) -> list[str]:
    """Why a task cannot be made; empty when it can."""
    try:
        await idle.create()
    except grpc.aio.AioRpcError as error:
        return [reason(error)]
    return []


async def test_programming_errors_are_not_translated(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetchval("SELECT * FROM nothing")
    with pytest.raises(asyncpg.exceptions.DataError):
        await database.fetchval("SELECT $1::int", "text")


async def test_callers_see_no_detail_of_the_database(start_posts: StartPosts, sql: Any) -> None:
    async with start_posts(generator_targets=()) as posts:
        await sql.execute("ALTER TABLE task_events RENAME TO elsewhere")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await posts.create()
        await sql.execute("ALTER TABLE elsewhere RENAME TO task_events")
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "task_events" not in (raised.value.details() or "")
