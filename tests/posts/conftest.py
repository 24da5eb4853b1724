"""A posts service on a fresh database between two scripted leaves, spoken to over a real channel."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc

from local.postgres import Postgres
from rpc import server
from services.posts import app
from services.posts.migrate import migrate
from services.posts.settings import PostsSettings
from tests.posts.leaves import GENERATOR, STORAGE, ScriptedGenerator, ScriptedStorage, serving

# Short times, so that what takes seconds in production takes a moment here.
QUICK: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "lease_seconds": 10.0,
    "sweep_seconds": 0.2,
    "poll_seconds": 0.3,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.2,
    "step_timeout_seconds": 30.0,
    "store_timeout_seconds": 1.0,
    "max_attempts": 3,
    "database_wait_seconds": 5.0,
}

T = tasks_pb2
AT_REST = {
    T.TASK_STATE_AWAITING_APPROVAL,
    T.TASK_STATE_APPROVED,
    T.TASK_STATE_REJECTED,
    T.TASK_STATE_CANCELLED,
    T.TASK_STATE_FAILED,
}


@dataclass
class Client:
    """What a caller sees of a posts process."""

    tasks: Any
    posts: Any
    channel: grpc.aio.Channel
    target: str
    app: Any = None

    async def create(self, prompt: str = "a lighthouse", **parameters: Any) -> Any:
        """Make a task."""
        wanted = T.GenerationParameters(prompt=prompt, **{"use_generation": True, **parameters})
        return (await self.tasks.CreateTask(T.CreateTaskRequest(parameters=wanted), timeout=10)).task

    async def get(self, task_id: str) -> Any:
        """Read a task."""
        return (await self.tasks.GetTask(T.GetTaskRequest(task_id=task_id), timeout=10)).task

    async def events(self, task_id: str, after: int = 0, timeout: float = 30) -> list[Any]:
        """All events up to the terminal one."""
        call = self.tasks.WatchTask(T.WatchTaskRequest(task_id=task_id, after_sequence=after), timeout=timeout)
        return [response.event async for response in call]

    async def finished(self, task_id: str, timeout: float = 30) -> Any:
        """The task once it rests."""
        await self.events(task_id, timeout=timeout)
        return await self.get(task_id)

    async def done(self, prompt: str = "a lighthouse", **parameters: Any) -> Any:
        """A task that awaits approval."""
        task = await self.finished((await self.create(prompt, **parameters)).id)
        assert task.state == T.TASK_STATE_AWAITING_APPROVAL, task
        return task

    async def approve(self, task_id: str, title: str = "A title", **fields: Any) -> Any:
        """Approve, with whatever fields."""
        return await self.tasks.ApproveTask(T.ApproveTaskRequest(task_id=task_id, title=title, **fields), timeout=10)


@contextlib.asynccontextmanager
async def client_of(target: str) -> AsyncIterator[Client]:
    """A plain client: no retries, no deadline of its own."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield Client(tasks_pb2_grpc.TaskServiceStub(channel), posts_pb2_grpc.PostServiceStub(channel), channel, target)


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> list[str]:
    """The name of a migrated database to copy, once it is made."""
    return []


@pytest.fixture
async def record_url(postgres: Postgres, template: list[str]) -> AsyncIterator[str]:
    """The address of a fresh database with the schema."""
    if not template:
        name = f"template_{uuid.uuid4().hex}"
        await postgres.create_database(name)
        await migrate(postgres.url(name))
        template.append(name)
    name = f"posts_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres.url("postgres"))
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template[0]}"')
        yield postgres.url(name)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
async def sql(record_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database."""
    connection = await asyncpg.connect(record_url)
    yield connection
    await connection.close()


@pytest.fixture
async def generator() -> AsyncIterator[ScriptedGenerator]:
    """A scripted generator; its address is `target`."""
    servicer = ScriptedGenerator()
    async with serving(servicer, GENERATOR) as handle:
        servicer.target = handle.address  # type: ignore[attr-defined]
        yield servicer
        if servicer.gate:
            servicer.gate.set()


@pytest.fixture
async def storage() -> AsyncIterator[ScriptedStorage]:
    """A scripted storage; its address is `target`."""
    servicer = ScriptedStorage()
    async with serving(servicer, STORAGE) as handle:
        servicer.target = handle.address  # type: ignore[attr-defined]
        yield servicer


StartPosts = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def start_posts(record_url: str, generator: Any, storage: Any) -> StartPosts:
    """Starts posts processes, in this one, on the test's database; keywords are settings."""

    @contextlib.asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Client]:
        settings = PostsSettings(
            **{
                **QUICK,
                "database_url": record_url,
                "generator_targets": (generator.target,),
                "storage_target": storage.target,
                **changes,
            }
        )
        async with app.running(settings) as running, server.running(running.services, settings) as handle:
            async with client_of(handle.address) as client:
                client.app = running
                yield client
                running.watchers.close()

    return start


@pytest.fixture
async def posts(start_posts: StartPosts) -> AsyncIterator[Client]:
    """A posts service with everything running."""
    async with start_posts() as client:
        yield client


@pytest.fixture
async def idle(start_posts: StartPosts) -> AsyncIterator[Client]:
    """A posts service that dispatches nothing: tasks stay in the queue."""
    async with start_posts(generator_targets=()) as client:
        yield client


def reason(error: grpc.aio.AioRpcError) -> str:
    """ErrorInfo.reason of a failed call."""
    from rpc.errors import from_call

    return from_call(error).reason


def wrong_fields(error: grpc.aio.AioRpcError) -> set[str]:
    """The fields that BadRequest names."""
    from rpc.errors import from_call

    return {violation.field for violation in from_call(error).violations}
