"""Processes that die, freeze or are told to stop in the middle of a task, and a database that crashes under them."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from local.ports import free_port
from services.posts.migrate import migrate
from tests.posts.conftest import QUICK, Client, StartPosts, client_of
from tests.posts.crashing import CrashingPostgres
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage

TIMEOUT = 60.0


class Process:
    """`python -m services.posts` on a port of its own."""

    def __init__(self, url: str, generator: Any, storage: Any, log: Path) -> None:
        self.target = f"127.0.0.1:{free_port()}"
        settings = {**QUICK, "listen": self.target, "database_url": url, "lease_seconds": 2.0, "max_attempts": 50}
        settings |= {"generator_targets": generator.target, "storage_target": storage.target}
        self.log = log
        with log.open("a") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.posts"],
                env={**os.environ, **{f"POSTS_{name.upper()}": str(value) for name, value in settings.items()}},
                stderr=stream,
            )

    def send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self._process.wait), TIMEOUT)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with client_of(self.target) as client:
            await asyncio.wait_for(client.channel.channel_ready(), TIMEOUT)
            yield client


@pytest.fixture
def spawn(record_url: str, generator: Any, storage: Any, tmp_path: Path) -> Iterator[Any]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(record_url, generator, storage, tmp_path / f"posts-{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


async def assert_whole(sql: Any, task_count: int) -> None:
    """Every task awaits approval with its images, and its events have no gap."""
    states = dict(await sql.fetch("SELECT state, count(*) FROM content_tasks GROUP BY 1"))
    assert states == {"awaiting_approval": task_count}
    assert (
        await sql.fetchval(
            "SELECT count(*) FROM content_tasks t WHERE candidate_count <>"
            " (SELECT count(*) FROM task_images i WHERE i.task_id = t.id)"
        )
        == 0
    )
    assert (
        await sql.fetchval(
            "SELECT count(*) FROM content_tasks t WHERE last_sequence <>"
            " (SELECT count(*) FROM task_events e WHERE e.task_id = t.id)"
        )
        == 0
    )


async def approve_all(client: Client, sql: Any) -> None:
    """Each task becomes one post, and only one."""
    ids = [str(row["id"]) for row in await sql.fetch("SELECT id FROM content_tasks")]
    for task_id in ids:
        await client.approve(task_id)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.approve(task_id)
        assert raised.value.code() is grpc.StatusCode.ABORTED
    assert await sql.fetchval("SELECT count(*) FROM posts") == len(ids)
    assert await sql.fetchval("SELECT count(DISTINCT task_id) FROM posts") == len(ids)


async def test_kill_9_in_the_middle_of_a_task(spawn: Any, generator: ScriptedGenerator, sql: Any) -> None:
    generator.gate = asyncio.Event()
    first = spawn()
    async with first.client() as client:
        task = await client.create(candidate_count=2)
        await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
        first.kill()
    generator.gate.set()
    second = spawn()
    async with second.client() as client:
        done = await client.finished(task.id)
        assert done.state == t.TASK_STATE_AWAITING_APPROVAL
        assert done.attempt_count >= 2
        reasons = [
            event.state_change.error.reason
            for event in await client.events(task.id)
            if event.state_change.HasField("error")
        ]
        assert set(reasons) == {"WORKER_LOST"}
        await assert_whole(sql, 1)
        await approve_all(client, sql)


async def test_a_frozen_process_that_wakes_up_writes_nothing(
    spawn: Any, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    zombie = spawn()
    async with zombie.client() as client:
        task = await client.create()
    await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
    zombie.send(signal.SIGSTOP)
    generator.gate.set()
    owner = spawn()
    async with owner.client() as client:
        done = await client.finished(task.id)
        assert done.attempt_count >= 2
        before = await sql.fetch("SELECT xmin, * FROM content_tasks")
        events = await sql.fetch("SELECT * FROM task_events ORDER BY sequence")
        zombie.send(signal.SIGCONT)
        while "not ours any more" not in zombie.log.read_text():
            await asyncio.sleep(0.05)
        assert await sql.fetch("SELECT xmin, * FROM content_tasks") == before
        assert await sql.fetch("SELECT * FROM task_events ORDER BY sequence") == events
        await assert_whole(sql, 1)


async def test_sigterm_gives_the_task_back(spawn: Any, generator: ScriptedGenerator, sql: Any) -> None:
    generator.gate = asyncio.Event()
    process = spawn()
    async with process.client() as client:
        task = await client.create()
        await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
        watching = asyncio.create_task(client.events(task.id))
        process.send(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watching
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await process.ended() == 0
    row = await sql.fetchrow("SELECT state, attempt_count FROM content_tasks")
    assert tuple(row) == ("queued", 0)


async def test_a_rain_of_kills(spawn: Any, generator: ScriptedGenerator, storage: ScriptedStorage, sql: Any) -> None:
    """Two processes, killed and frozen at random while they work: every task ends once."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    generator.step_seconds = 0.15
    count = 30
    processes = [spawn(), spawn()]
    async with processes[0].client() as client:
        for number in range(count):
            await client.create(candidate_count=1 + number % 2)
    kills = 0
    ends = asyncio.get_running_loop().time() + TIMEOUT
    while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE state <> 'awaiting_approval'"):
        assert asyncio.get_running_loop().time() < ends
        while not generator.in_progress and asyncio.get_running_loop().time() < ends - 30:
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        victim = chance.randrange(2)
        if kills < 6 and (kills == 0 or chance.random() < 0.7):  # the first is a kill, whatever the dice say
            processes[victim].kill()
            processes[victim] = spawn()
            kills += 1
        else:
            processes[victim].send(signal.SIGSTOP)
            await asyncio.sleep(2.5)
            processes[victim].send(signal.SIGCONT)
    attempts = await sql.fetchval("SELECT sum(attempt_count) FROM content_tasks")
    print("kills", kills, "attempts", attempts, "images stored", len(storage.images))
    assert kills > 0
    assert attempts > count  # they hit work in progress
    await assert_whole(sql, count)
    async with processes[0].client() as client:
        await approve_all(client, sql)


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[CrashingPostgres]:
    """A PostgreSQL that this test may crash; with fsync, as in earnest."""
    server = await asyncio.to_thread(CrashingPostgres, tmp_path / "postgres", "record")
    await migrate(server.url)
    yield server
    await asyncio.to_thread(server.stop)


async def test_the_database_crashes_in_the_middle_of_tasks(
    own_server: CrashingPostgres, start_posts: StartPosts, generator: ScriptedGenerator
) -> None:
    """Immediate restarts, again and again: acknowledged tasks end, watchers go on, listening is taken up again."""
    generator.step_seconds = 0.1
    async with start_posts(database_url=own_server.url, max_attempts=20, database_wait_seconds=20) as posts:
        acknowledged = [(await posts.create(candidate_count=2)).id for _ in range(8)]
        watches = [asyncio.create_task(posts.events(task_id, timeout=TIMEOUT)) for task_id in acknowledged]
        codes: list[grpc.StatusCode] = []
        for _ in range(3):
            await asyncio.sleep(0.7)
            crash = asyncio.create_task(asyncio.to_thread(own_server.crash))
            while not crash.done():
                try:
                    acknowledged.append((await posts.create()).id)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())
                await asyncio.sleep(0.05)
            await crash
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE}
        for events in await asyncio.gather(*watches):
            stored = [event for event in events if event.sequence]
            assert [event.sequence for event in stored] == list(range(1, len(stored) + 1))
            assert stored[-1].terminal
        for task_id in acknowledged:
            done = await posts.finished(task_id, timeout=TIMEOUT)
            assert done.state == t.TASK_STATE_AWAITING_APPROVAL, done
        print("refused", len(codes), "acknowledged", len(acknowledged))
        connection = await asyncpg.connect(own_server.url)
        unknown = await connection.fetchval("SELECT count(*) FROM content_tasks") - len(acknowledged)
        assert unknown <= len(codes)  # made, but the answer was lost
        for task_id in acknowledged:
            await posts.approve(task_id)
        assert await connection.fetchval("SELECT count(*) FROM posts") == len(acknowledged)
        await connection.close()
