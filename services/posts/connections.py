"""What the API process and the worker open alike: the database with a current schema, storage and the generators."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from services.posts.clients.generator import GeneratorClient
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database, connected
from services.posts.database.migrate import require_current
from services.posts.settings import ConnectionSettings, PostsSettings

# With less, PostgreSQL keeps only the pages of the posts that a frequent word of the index gives, and reads them all.
_SEARCH_MEMORY = "64MB"


@dataclass(frozen=True)
class Connections:
    """Open connections."""

    database: Database
    storage: StorageClient
    generators: tuple[GeneratorClient, ...]


@contextlib.asynccontextmanager
async def connect(settings: ConnectionSettings, application: str) -> AsyncIterator[Connections]:
    """Connect as `application` and check the schema.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    url, wait_seconds = settings.database_url.get_secret_value(), settings.database_wait_seconds
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            connected(url, application, size=settings.database_pool_size, wait_seconds=wait_seconds)
        )
        await require_current(database)
        storage = StorageClient(settings.storage_target)
        stack.push_async_callback(storage.close)
        generators = tuple(GeneratorClient(target) for target in settings.generator_targets)
        for generator in generators:
            stack.push_async_callback(generator.close)
        yield Connections(database, storage, generators)


@contextlib.asynccontextmanager
async def readers(settings: PostsSettings) -> AsyncIterator[tuple[Database, Database]]:
    """Pools for lists and published posts, and for searches: none of them takes a connection that an editor needs.

    Raises Unavailable.
    """
    url, wait_seconds = settings.database_url.get_secret_value(), settings.database_wait_seconds
    async with (
        connected(
            url,
            "posts-readers",
            size=settings.database_reader_pool_size,
            wait_seconds=wait_seconds,
            for_readers=True,
        ) as reads,
        connected(
            url,
            "posts-search",
            size=settings.database_search_pool_size,
            wait_seconds=wait_seconds,
            for_readers=True,
            work_mem=_SEARCH_MEMORY,
        ) as searches,
    ):
        yield reads, searches


@contextlib.asynccontextmanager
async def background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `loops` for as long as the block lasts."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
