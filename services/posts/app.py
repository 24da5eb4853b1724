"""Everything that a posts process runs, put together: the servicers, the dispatcher and the loops behind them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc

from rpc.server import Service
from services.posts.api.servicers import PostServicer, TaskServicer
from services.posts.clients.generator import GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.content.images import Pictures
from services.posts.content.repository import Posts
from services.posts.content.taxonomy import Shelves
from services.posts.database.database import Database, connected
from services.posts.database.migrate import require_current
from services.posts.settings import PostsSettings
from services.posts.tasks.events import Watchers
from services.posts.tasks.notify import Listener, Stored
from services.posts.tasks.queue import Queue
from services.posts.tasks.repository import Tasks
from services.posts.worker.attempt import Terms
from services.posts.worker.dispatcher import Dispatcher
from services.posts.worker.generate import Patience
from services.posts.worker.maintenance import Upkeep

TASK_SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
POST_SERVICE = posts_pb2.DESCRIPTOR.services_by_name["PostService"].full_name

# Heartbeats and claims must not wait for callers.
DISPATCH_POOL_SIZE = 4


@dataclass(frozen=True)
class App:
    """A running posts process without its server."""

    services: tuple[Service, ...]
    database: Database
    dispatcher: Dispatcher
    watchers: Watchers

    async def stop(self) -> None:
        """Give back what is in progress and end all watches; calls go on being served."""
        self.watchers.close()
        await self.dispatcher.stop()


@contextlib.asynccontextmanager
async def running(settings: PostsSettings) -> AsyncIterator[App]:
    """Connect, check the schema, and work for as long as the block lasts.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    url, wait = settings.database_url.get_secret_value(), settings.database_wait_seconds
    async with contextlib.AsyncExitStack() as stack:
        calls = await stack.enter_async_context(
            connected(url, "posts", size=settings.database_pool_size, wait_seconds=wait)
        )
        await require_current(calls)
        work = await stack.enter_async_context(
            connected(url, "posts-dispatcher", size=DISPATCH_POOL_SIZE, wait_seconds=wait)
        )
        storage = StorageClient(settings.storage_target)
        stack.push_async_callback(storage.close)
        generators = [GeneratorClient(target) for target in settings.generator_targets]
        for generator in generators:
            stack.push_async_callback(generator.close)

        queue = Queue(work, settings.lease_seconds)
        watchers = Watchers(calls, settings.poll_seconds)
        dispatcher = Dispatcher(
            queue, work, generators, storage, _terms(settings), settings.poll_seconds, settings.dispatch_ahead
        )
        upkeep = Upkeep(
            work, queue, storage, settings.lease_seconds, (settings.retry_base_seconds, settings.retry_cap_seconds)
        )

        def on_stored(stored: Stored) -> None:
            watchers.on_stored(stored)
            dispatcher.on_stored(stored)

        def on_gap() -> None:
            watchers.on_gap()
            dispatcher.on_gap()

        listener = Listener(url, on_stored, watchers.on_passing, on_gap)
        loops = [
            listener.run(),
            watchers.poll(),
            upkeep.sweep(settings.sweep_seconds),
            upkeep.keep_images(),
            upkeep.forget_keys(settings.idempotency_days),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stack.push_async_callback(_cancel, tasks)
        await stack.enter_async_context(dispatcher.running())
        yield App(_services(calls, storage, watchers, settings), calls, dispatcher, watchers)


def _services(
    record: Database, storage: StorageClient, watchers: Watchers, settings: PostsSettings
) -> tuple[Service, ...]:
    pictures = Pictures(record, storage)
    tasks = TaskServicer(Tasks(record, settings.max_attempts), watchers, pictures)
    posts = PostServicer(Posts(record), Shelves(record), pictures)
    return (
        Service(TASK_SERVICE, lambda server: tasks_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)),
        Service(POST_SERVICE, lambda server: posts_pb2_grpc.add_PostServiceServicer_to_server(posts, server)),
    )


def _terms(settings: PostsSettings) -> Terms:
    return Terms(
        lease=settings.lease_seconds,
        patience=Patience(
            settings.step_timeout_seconds, settings.queue_timeout_seconds, settings.attempt_timeout_seconds
        ),
        store=settings.store_timeout_seconds,
        retry_base=settings.retry_base_seconds,
        retry_cap=settings.retry_cap_seconds,
        preview_interval=settings.preview_interval,
    )


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
