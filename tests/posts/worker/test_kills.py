"""Workers and API processes that are killed, frozen or stopped in the middle of a task, and a database that crashes."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from local.ports import free_port
from services.posts.database.migrate import migrate
from tests.posts.conftest import API_SETTINGS, WORKER_SETTINGS, Client, StartPosts
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage
from tests.posts.worker.crashing import CrashingPostgres
from tests.posts.worker.processes import TIMEOUT, Api, Process

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(record_url: str, generator: Any, storage: Any) -> dict[str, str]:
    return {"database_url": record_url, "generator_targets": generator.target, "storage_target": storage.target}


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """The processes of a test; they are killed at its end."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


@pytest.fixture
def spawn_worker(shared: dict[str, str], started: list[Process], tmp_path: Path) -> Callable[[], Process]:
    def start() -> Process:
        settings = {**WORKER_SETTINGS, **shared, "lease_seconds": 1.5}
        started.append(Process("services.posts.worker", settings, tmp_path / f"worker-{len(started)}.log"))
        return started[-1]

    return start


@pytest.fixture
def spawn_api(shared: dict[str, str], started: list[Process], tmp_path: Path) -> Callable[[], Api]:
    def start() -> Api:
        settings = {**API_SETTINGS, **shared, "listen": f"127.0.0.1:{free_port()}", "max_attempts": 50}
        process = Api("services.posts", settings, tmp_path / f"api-{len(started)}.log")
        process.target = settings["listen"]
        started.append(process)
        return process

    return start


@pytest.fixture
async def api(start_posts: StartPosts) -> AsyncIterator[Client]:
    """An API in this process, without worker."""
    async with start_posts(worker=False, max_attempts=50) as client:
        yield client


async def assert_complete(sql: Any, task_count: int) -> None:
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


async def test_task_of_a_killed_worker_is_finished_by_another(
    api: Client, spawn_worker: Any, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    first, _second = spawn_worker(), spawn_worker()
    await first.logged("serving")
    task = await api.create(candidate_count=2)
    await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
    first.kill()
    _second.kill()
    generator.gate.set()
    spawn_worker()
    done = await api.finished(task.id, timeout=TIMEOUT)
    assert done.state == t.TASK_STATE_AWAITING_APPROVAL
    assert done.attempt_count >= 2
    reasons = [
        event.state_change.error.reason for event in await api.events(task.id) if event.state_change.HasField("error")
    ]
    assert set(reasons) == {"WORKER_LOST"}
    await assert_complete(sql, 1)
    await approve_all(api, sql)


async def test_task_of_a_killed_api_is_finished_and_watched_through_another(
    spawn_api: Any, spawn_worker: Any, generator: ScriptedGenerator
) -> None:
    generator.gate = asyncio.Event()
    first, second, _ = spawn_api(), spawn_api(), spawn_worker()
    async with first.client() as client:
        task = await client.create()
        await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
        watching = asyncio.create_task(client.events(task.id))
        first.kill()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watching
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    generator.gate.set()
    async with second.client() as client:
        done = await client.finished(task.id, timeout=TIMEOUT)
    assert (done.state, done.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)


async def test_frozen_worker_that_wakes_up_writes_nothing(
    api: Client, spawn_worker: Any, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    frozen = spawn_worker()
    task = await api.create()
    await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
    frozen.send(signal.SIGSTOP)
    generator.gate.set()
    spawn_worker()
    done = await api.finished(task.id, timeout=TIMEOUT)
    assert done.attempt_count >= 2
    before = await sql.fetch("SELECT xmin, * FROM content_tasks")
    events = await sql.fetch("SELECT * FROM task_events ORDER BY sequence")
    frozen.send(signal.SIGCONT)
    await frozen.logged("the lease was lost")
    assert await sql.fetch("SELECT xmin, * FROM content_tasks") == before
    assert await sql.fetch("SELECT * FROM task_events ORDER BY sequence") == events
    await assert_complete(sql, 1)


async def test_worker_releases_its_tasks_on_sigterm(
    api: Client, spawn_worker: Any, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    worker = spawn_worker()
    await api.create()
    await asyncio.wait_for(generator.at_gate.wait(), TIMEOUT)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    row = await sql.fetchrow("SELECT state, attempt_count FROM content_tasks")
    assert tuple(row) == ("queued", 0)


async def test_api_ends_its_streams_on_sigterm(spawn_api: Any) -> None:
    process = spawn_api()
    async with process.client() as client:
        task = await client.create()
        watching = asyncio.create_task(client.events(task.id))
        await asyncio.sleep(0.1)
        process.send(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watching
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await process.ended() == 0


async def test_random_kills_of_workers_lose_and_repeat_nothing(
    api: Client, spawn_worker: Any, generator: ScriptedGenerator, storage: ScriptedStorage, sql: Any
) -> None:
    """Two workers are killed and frozen at random while they work: every task ends once."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    generator.step_seconds = 0.1
    count = 16
    workers = [spawn_worker(), spawn_worker()]
    for number in range(count):
        await api.create(candidate_count=1 + number % 2)
    kills = 0
    ends = asyncio.get_running_loop().time() + TIMEOUT
    while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE state <> 'awaiting_approval'"):
        assert asyncio.get_running_loop().time() < ends
        while not generator.in_progress and asyncio.get_running_loop().time() < ends - 30:
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0.0, 0.6))
        victim = chance.randrange(2)
        if kills < 4 and (kills == 0 or chance.random() < 0.7):  # the first is a kill in any case
            workers[victim].kill()
            workers[victim] = spawn_worker()
            kills += 1
        else:
            workers[victim].send(signal.SIGSTOP)
            await asyncio.sleep(2.0)  # longer than the lease
            workers[victim].send(signal.SIGCONT)
    attempts = await sql.fetchval("SELECT sum(attempt_count) FROM content_tasks")
    print("kills", kills, "attempts", attempts, "images stored", len(storage.images))
    assert kills > 0
    assert attempts > count  # they hit work in progress
    await assert_complete(sql, count)
    await approve_all(api, sql)


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[CrashingPostgres]:
    """A PostgreSQL that this test may crash; with fsync, as in production."""
    server = await asyncio.to_thread(CrashingPostgres, tmp_path / "postgres", "record")
    await migrate(server.url)
    yield server
    await asyncio.to_thread(server.stop)


async def test_crashing_database_loses_no_acknowledged_task(
    own_server: CrashingPostgres, start_posts: StartPosts, generator: ScriptedGenerator
) -> None:
    """Repeated immediate restarts: acknowledged tasks end, watchers continue, processes listen again."""
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
        assert unknown <= len(codes)  # created, but the response was lost
        for task_id in acknowledged:
            await posts.approve(task_id)
        assert await connection.fetchval("SELECT count(*) FROM posts") == len(acknowledged)
        await connection.close()
