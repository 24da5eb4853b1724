"""The API of posts and a worker on a database without data, between two scripted leaves, called over a real channel."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from frontispiece.types.v1 import generation_pb2

from local.postgres import Postgres
from rpc import server
from rpc.errors import from_call
from rpc.image_urls import ImageUrls
from services.posts import app
from services.posts.content.addresses import Addresses
from services.posts.content.texts import deriving
from services.posts.database.migrate import migrate
from services.posts.settings import PostsSettings
from services.posts.worker import app as worker_app
from services.posts.worker import maintenance
from services.posts.worker.settings import WorkerSettings
from tests.posts.leaves import GENERATOR, STORAGE, ScriptedGenerator, ScriptedStorage, serving

# Short times: what takes seconds in production takes a moment here.
API_SETTINGS: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "poll_seconds": 0.1,
    "max_attempts": 3,
    "database_wait_seconds": 5.0,
}
WORKER_SETTINGS: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "lease_seconds": 10.0,
    "reap_seconds": 0.2,
    "poll_seconds": 0.1,
    "retry_base_seconds": 0.05,
    "retry_cap_seconds": 0.2,
    "step_timeout_seconds": 30.0,
    "store_timeout_seconds": 1.0,
    "database_wait_seconds": 5.0,
}

T = tasks_pb2

BASE = "http://127.0.0.1:8080"
ADDRESSES = Addresses(ImageUrls(BASE), BASE)

TABLES = (
    "addresses, content_tasks, task_masks, task_images, task_events, posts, post_tags, post_revisions, post_slugs,"
    " tags, idempotency_keys"
)


@dataclass
class Client:
    """What a caller sees of posts."""

    tasks: Any
    posts: Any
    channel: grpc.aio.Channel
    target: str
    app: Any = None
    worker: Any = None

    async def create(self, prompt: str = "a lighthouse", candidate_count: int = 1, **parameters: Any) -> Any:
        """Create a task."""
        request = T.CreateTaskRequest(
            parameters=generation_pb2.GenerationParameters(prompt=prompt, **parameters),
            candidate_count=candidate_count,
        )
        return (await self.tasks.CreateTask(request, timeout=10)).task

    async def get(self, task_id: str) -> Any:
        """Read a task."""
        return (await self.tasks.GetTask(T.GetTaskRequest(task_id=task_id), timeout=10)).task

    async def events(self, task_id: str, after: int = 0, timeout: float = 30) -> list[Any]:
        """All events up to the terminal one."""
        call = self.tasks.WatchTask(T.WatchTaskRequest(task_id=task_id, after_sequence=after), timeout=timeout)
        return [response.event async for response in call]

    async def finished(self, task_id: str, timeout: float = 30) -> Any:
        """The task in its terminal state."""
        await self.events(task_id, timeout=timeout)
        return await self.get(task_id)

    async def done(self, prompt: str = "a lighthouse", **parameters: Any) -> Any:
        """Create a task and wait until it awaits approval."""
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


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are no setting."""
    monkeypatch.setattr(maintenance, "RETAIN_SECONDS", 0.2)
    monkeypatch.setattr(maintenance, "DERIVE_SECONDS", 0.2)
    monkeypatch.setattr(deriving, "WRITE_WAIT_SECONDS", 60.0)  # on a loaded machine


@pytest.fixture(scope="session")
def shared_database(postgres: Postgres) -> Iterator[str]:
    """The name of a migrated database that the tests of one process share, and that serves as a template."""
    name = f"posts_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{uuid.uuid4().hex[:8]}"

    async def create() -> None:
        await postgres.create_database(name)
        await migrate(postgres.url(name))

    asyncio.run(create())
    yield name
    asyncio.run(on_server(postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def on_server(postgres: Postgres, *statements: str) -> None:
    """Execute statements outside of the databases of the tests."""
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def own_database() -> None:
    """For `usefixtures`: gives the test a database of its own, because it changes the schema or settings of it."""


@pytest.fixture
async def record_url(request: pytest.FixtureRequest, postgres: Postgres, shared_database: str) -> AsyncIterator[str]:
    """The address of a database with the schema and without data."""
    if "own_database" not in request.fixturenames:
        await empty(postgres.url(shared_database))
        yield postgres.url(shared_database)
        return
    name = f"posts_{uuid.uuid4().hex}"
    await on_server(postgres, *disconnect(shared_database), f'CREATE DATABASE "{name}" TEMPLATE "{shared_database}"')
    await empty(postgres.url(name))
    yield postgres.url(name)
    await on_server(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


def disconnect(name: str) -> tuple[str]:
    """The statement that ends all connections to a database: a killed process may have left some."""
    return (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()",
    )


async def empty(url: str) -> None:
    """Remove all data but what the migration inserts."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(*disconnect(await connection.fetchval("SELECT current_database()")))
        await connection.execute(
            f"TRUNCATE {TABLES}; DELETE FROM authors WHERE created_by <> 'migration';"
            " DELETE FROM categories WHERE created_by <> 'migration'"
        )
    finally:
        await connection.close()


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
    """Starts an API with a worker, in this process, on the test's database. Keywords are settings of either."""

    @contextlib.asynccontextmanager
    async def start(*, worker: bool = True, **changes: Any) -> AsyncIterator[Client]:
        shared = {
            "database_url": record_url,
            "generator_targets": (generator.target,),
            "storage_target": storage.target,
        }
        api_settings = chosen(PostsSettings, {**API_SETTINGS, **shared, **changes})
        async with contextlib.AsyncExitStack() as stack:
            running = await stack.enter_async_context(app.running(api_settings))
            handle = await stack.enter_async_context(server.running(running.services, api_settings))
            client = await stack.enter_async_context(client_of(handle.address))
            client.app = running
            if worker:
                worker_settings = chosen(WorkerSettings, {**WORKER_SETTINGS, **shared, **changes})
                client.worker = await stack.enter_async_context(worker_app.running(worker_settings))
            yield client
            running.end_streams()

    return start


def chosen(kind: Any, values: dict[str, Any]) -> Any:
    """The settings of a process among those of several."""
    return kind(**{name: value for name, value in values.items() if name in kind.model_fields})


@pytest.fixture
async def posts(start_posts: StartPosts) -> AsyncIterator[Client]:
    """An API and a worker with a generator."""
    async with start_posts() as client:
        yield client


@pytest.fixture
async def idle(start_posts: StartPosts) -> AsyncIterator[Client]:
    """An API without worker and generator: tasks stay in the queue."""
    async with start_posts(worker=False, generator_targets=()) as client:
        yield client


@pytest.fixture
async def maintained(start_posts: StartPosts) -> AsyncIterator[Client]:
    """An API and a worker without generator: tasks stay in the queue, but maintenance is done."""
    async with start_posts(generator_targets=()) as client:
        yield client


def reason(error: grpc.aio.AioRpcError) -> str:
    """ErrorInfo.reason of a failed call."""
    return from_call(error).reason


def wrong_fields(error: grpc.aio.AioRpcError) -> set[str]:
    """The fields that BadRequest names."""
    return {violation.field for violation in from_call(error).violations}
