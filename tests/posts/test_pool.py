"""Connections are lent to one user at a time, never more than allowed, and never again after something went wrong."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.posts.database import pool as module
from services.posts.database.pool import Connection, Pool

SIZE = 2


class Opened(Pool):
    """A pool that remembers what it has opened."""

    def __init__(self, url: str) -> None:
        super().__init__(self._open_one, SIZE)
        self.url = url
        self.opened: list[Connection] = []

    async def _open_one(self) -> Connection:
        self.opened.append(await asyncpg.connect(self.url))
        return self.opened[-1]

    @property
    def alive(self) -> int:
        return sum(not connection.is_closed() for connection in self.opened)


@pytest.fixture
async def pool(record_url: str) -> AsyncIterator[Opened]:
    opened = Opened(record_url)
    yield opened
    await opened.close()
    assert opened.alive == 0


async def test_what_came_back_last_is_lent_first(pool: Opened) -> None:
    first, second = await pool.take(), await pool.take()
    pool.give_back(second)
    pool.give_back(first)
    assert await pool.take() is first
    assert await pool.take() is second
    pool.give_back(first)
    pool.give_back(second)


async def test_never_more_than_allowed_and_everybody_gets_a_turn(pool: Opened) -> None:
    at_once = most = 0

    async def use(number: int) -> int:
        nonlocal at_once, most
        connection = await pool.take()
        at_once += 1
        most = max(most, at_once)
        try:
            return int(await connection.fetchval("SELECT $1::int", number))
        finally:
            at_once -= 1
            pool.give_back(connection, is_good=number % 7 != 0)  # now and then one must be replaced

    assert await asyncio.gather(*(use(number) for number in range(60))) == list(range(60))
    assert most == SIZE


async def test_who_stops_waiting_takes_nothing_along(pool: Opened) -> None:
    held = [await pool.take() for _ in range(SIZE)]
    gone, patient = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    pool.give_back(held[0])  # it is on its way to the first when that one is cancelled
    gone.cancel()
    assert await patient is held[0]
    assert gone.cancelled()
    pool.give_back(held[0])
    pool.give_back(held[1])


async def test_who_waits_too_long_is_told_and_leaves_the_line(pool: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    held = [await pool.take() for _ in range(SIZE)]
    with pytest.raises(TimeoutError):
        await pool.take()
    for connection in held:
        pool.give_back(connection)
    assert await pool.take() is held[-1]
    pool.give_back(held[-1])


async def test_a_failure_to_open_frees_its_place(pool: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    url, pool.url = pool.url, "postgresql://nobody@127.0.0.1:1/none"
    for _ in range(SIZE + 1):
        with pytest.raises(OSError):
            await pool.take()
    pool.url = url
    connections = [await pool.take() for _ in range(SIZE)]
    for connection in connections:
        pool.give_back(connection)


@pytest.mark.parametrize("harm", ["closed", "transaction", "bad", "expired"])
async def test_what_is_spoilt_is_not_lent_again(pool: Opened, harm: str) -> None:
    connection = await pool.take()
    if harm == "closed":
        await connection.close()
    elif harm == "transaction":
        await connection.execute("BEGIN")
    elif harm == "expired":
        pool.expire()
    pool.give_back(connection, is_good=harm != "bad")
    others = [await pool.take() for _ in range(SIZE)]
    assert connection not in others
    assert all([await other.fetchval("SELECT 1") for other in others])
    for other in others:
        pool.give_back(other)


async def test_one_that_dies_while_idle_is_replaced(pool: Opened) -> None:
    connection = await pool.take()
    pool.give_back(connection)
    connection.terminate()
    other = await pool.take()
    assert other is not connection
    assert await other.fetchval("SELECT 1") == 1
    pool.give_back(other)


async def test_what_nobody_needs_for_long_is_closed(pool: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await pool.take(), await pool.take()
    pool.give_back(first)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    await asyncio.sleep(0.01)
    pool.give_back(second)
    async with asyncio.timeout(10):
        while not first.is_closed():
            await asyncio.sleep(0.01)
    assert await pool.take() is second
    pool.give_back(second)
