"""The parts of a worker, put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.posts.clients.generator import GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database, connected
from services.posts.database.migrate import require_current
from services.posts.tasks.notify import Listener
from services.posts.tasks.queue import Queue
from services.posts.worker.attempt import AttemptPolicy, Leaves
from services.posts.worker.dispatcher import Dispatcher
from services.posts.worker.maintenance import Maintenance
from services.posts.worker.settings import WorkerSettings


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    database: Database
    dispatcher: Dispatcher


@contextlib.asynccontextmanager
async def running(settings: WorkerSettings) -> AsyncIterator[Worker]:
    """Connect, check the schema, and work for as long as the block lasts.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    url = settings.database_url.get_secret_value()
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            connected(url, "worker", size=settings.database_pool_size, wait_seconds=settings.database_wait_seconds)
        )
        await require_current(database)
        storage = StorageClient(settings.storage_target)
        stack.push_async_callback(storage.close)
        generators = [GeneratorClient(target) for target in settings.generator_targets]
        for generator in generators:
            stack.push_async_callback(generator.close)

        queue = Queue(database, settings.lease_seconds)
        policy = AttemptPolicy.of(settings)
        dispatcher = Dispatcher(Leaves(queue, database, storage), generators, policy)
        maintenance = Maintenance(database, queue, storage, policy)
        listener = Listener(url, "worker-listener", dispatcher.on_stored, dispatcher.on_gap)
        loops = [
            listener.run(),
            maintenance.reap(settings.reap_seconds),
            maintenance.retain_images(),
            maintenance.expire_keys(settings.idempotency_days),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stack.push_async_callback(_cancel, tasks)
        await stack.enter_async_context(dispatcher.running())
        yield Worker(database, dispatcher)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
