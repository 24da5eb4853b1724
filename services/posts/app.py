"""The parts of the posts API process, put together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc, tasks_pb2, tasks_pb2_grpc

from rpc.server import Service
from services.posts.api.servicers import PostServicer, TaskServicer
from services.posts.connections import background, connect, readers
from services.posts.content.addresses import Addresses
from services.posts.content.change_feed import ChangeFeed
from services.posts.content.images import Images
from services.posts.content.repository import Posts
from services.posts.content.taxonomy import Taxonomy
from services.posts.content.texts.deriving import running as deriving
from services.posts.database.database import Database
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
    changes: ChangeFeed

    def end_streams(self) -> None:
        """End all event streams. Their callers continue at another process."""
        self.events.close()
        self.changes.close()


@contextlib.asynccontextmanager
async def running(settings: PostsSettings) -> AsyncIterator[App]:
    """Connect, check the schema, and follow notifications for as long as the block lasts.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    async with (
        connect(settings, "posts") as connections,
        readers(settings) as (reads, searches),
        deriving(()) as texts,
    ):
        database = connections.database
        events = TaskEvents(database, settings.poll_seconds)
        url = settings.database_url.get_secret_value()
        changes = ChangeFeed()

        def on_gap() -> None:
            events.on_gap()
            changes.announce()

        listener = Listener(url, "posts-listener", events.on_stored, on_gap, events.on_ephemeral, changes.announce)
        addresses = await Addresses.load(settings, database)
        texts.bases = addresses.image_bases
        images = Images(database, connections.storage)
        tasks = Tasks(database, texts, addresses, settings.max_attempts)
        creator = TaskCreator(tasks, images, connections.generators)
        services = _services(
            TaskServicer(tasks, creator, events, addresses),
            PostServicer(
                Posts(database, texts, addresses, reads, searches),
                Taxonomy(database, reads),
                images,
                changes,
                addresses,
            ),
        )
        async with background(listener.run(), events.poll()):
            yield App(services, database, events, changes)


def _services(tasks: TaskServicer, posts: PostServicer) -> tuple[Service, ...]:
    return (
        Service(TASK_SERVICE, lambda server: tasks_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)),
        Service(POST_SERVICE, lambda server: posts_pb2_grpc.add_PostServiceServicer_to_server(posts, server)),
    )
