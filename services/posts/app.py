"""The parts of the posts API process, put together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc

from rpc.server import Service
from services.posts.api.servicers import PostServicer, TaskServicer
from services.posts.clients.generator import GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.content.images import Images
from services.posts.content.repository import Posts
from services.posts.content.taxonomy import Taxonomy
from services.posts.database.database import Database, connected
from services.posts.database.migrate import require_current
from services.posts.settings import PostsSettings
from services.posts.tasks.create import TaskCreator
from services.posts.tasks.events import TaskEvents
from services.posts.tasks.notify import Listener
from services.posts.tasks.repository import Tasks

TASK_SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
POST_SERVICE = posts_pb2.DESCRIPTOR.services_by_name["PostService"].full_name


@dataclass(frozen=True)
class App:
    """A running API process without its server."""

    services: tuple[Service, ...]
    database: Database
    events: TaskEvents


@contextlib.asynccontextmanager
async def running(settings: PostsSettings) -> AsyncIterator[App]:
    """Connect, check the schema, and follow notifications for as long as the block lasts.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    url = settings.database_url.get_secret_value()
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            connected(url, "posts", size=settings.database_pool_size, wait_seconds=settings.database_wait_seconds)
        )
        await require_current(database)
        storage = StorageClient(settings.storage_target)
        stack.push_async_callback(storage.close)
        generators = [GeneratorClient(target) for target in settings.generator_targets]
        for generator in generators:
            stack.push_async_callback(generator.close)

        events = TaskEvents(database, settings.poll_seconds)
        listener = Listener(url, "posts-listener", events.on_stored, events.on_gap, events.on_ephemeral)
        loops = [asyncio.create_task(listener.run()), asyncio.create_task(events.poll())]
        stack.push_async_callback(_cancel, loops)

        images = Images(database, storage)
        tasks = Tasks(database, settings.max_attempts)
        creator = TaskCreator(tasks, images, generators)
        services = _services(
            TaskServicer(tasks, creator, events), PostServicer(Posts(database), Taxonomy(database), images)
        )
        yield App(services, database, events)


def _services(tasks: TaskServicer, posts: PostServicer) -> tuple[Service, ...]:
    return (
        Service(TASK_SERVICE, lambda server: tasks_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)),
        Service(POST_SERVICE, lambda server: posts_pb2_grpc.add_PostServiceServicer_to_server(posts, server)),
    )


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
