"""What must happen even if nobody asks: expired leases, images to keep, old idempotency keys."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from rpc import errors
from services.posts.clients.storage import StorageClient
from services.posts.database.database import Database
from services.posts.tasks.queue import Queue

log = logging.getLogger(__name__)

KEEP_SECONDS = 2.0
FORGET_SECONDS = 3600.0

# Taken with a new time, so that several processes share the work, and a failed one is tried again later.
POST_IMAGES = """
UPDATE posts SET image_keep_at = clock_timestamp() + interval '30 seconds'
WHERE id IN (
    SELECT id FROM posts WHERE image_keep_at <= clock_timestamp() ORDER BY image_keep_at LIMIT 10
    FOR UPDATE SKIP LOCKED
)
RETURNING id, featured_image_key AS key
"""

POST_IMAGE_KEPT = "UPDATE posts SET image_keep_at = NULL WHERE id = $1 AND featured_image_key = $2"

POST_IMAGE_GONE = """
UPDATE posts SET image_keep_at = clock_timestamp() + interval '1 day' WHERE id = $1 AND featured_image_key = $2
"""

TASK_IMAGES = """
UPDATE content_tasks SET initial_image_keep_at = clock_timestamp() + interval '30 seconds'
WHERE id IN (
    SELECT id FROM content_tasks WHERE initial_image_keep_at <= clock_timestamp()
    ORDER BY initial_image_keep_at LIMIT 10 FOR UPDATE SKIP LOCKED
)
RETURNING id, initial_image ->> 'key' AS key
"""

# Also for one that is gone: nobody looks at it any more, and an attempt says so itself.
TASK_IMAGE_DONE = """
UPDATE content_tasks SET initial_image_keep_at = NULL WHERE id = $1 AND initial_image ->> 'key' = $2
"""

TO_KEEP = ((POST_IMAGES, POST_IMAGE_KEPT, POST_IMAGE_GONE), (TASK_IMAGES, TASK_IMAGE_DONE, TASK_IMAGE_DONE))


class Upkeep:
    """Loops that any number of posts processes may run at once."""

    def __init__(
        self, record: Database, queue: Queue, storage: StorageClient, lease_seconds: float, retry: tuple[float, float]
    ) -> None:
        """`retry`: base and cap of the wait before a swept task is tried again, in seconds."""
        self._record = record
        self._queue = queue
        self._storage = storage
        self._lease_seconds = lease_seconds
        self._retry = retry

    async def sweep(self, seconds: float) -> None:
        """Take back expired leases, until cancelled."""
        await self._repeatedly(self._sweep_once, seconds, pause_after_outage=min(self._lease_seconds / 2, 10.0))

    async def keep_images(self) -> None:
        """Tell storage which images posts show and tasks begin from, until cancelled."""
        await self._repeatedly(self._keep_once, KEEP_SECONDS)

    async def forget_keys(self, days: int) -> None:
        """Delete old idempotency keys, until cancelled."""

        async def forget() -> None:
            while await self._queue.forget_keys(days):
                pass

        await self._repeatedly(forget, FORGET_SECONDS)

    async def _sweep_once(self) -> None:
        if count := await self._queue.sweep(*self._retry):
            log.warning("tasks of lost workers taken back", extra={"count": count})

    async def _keep_once(self) -> None:
        for due, kept, gone in TO_KEEP:
            for row in await self._record.fetch(due):
                if done := await self._keep(row["key"], kept, gone):
                    await self._record.execute(done, row["id"], row["key"])

    async def _keep(self, key: str, kept: str, gone: str) -> str:
        """Tell storage to keep an image; the statement to run then, or "" to try again later."""
        try:
            await self._storage.keep(key)
        except (errors.NotFound, errors.InvalidArgument) as error:
            log.warning("storage has no such image: %s", error.message, extra={"key": key})
            return gone
        except errors.RpcError as error:
            log.info("image is marked again later: %s", error.message, extra={"key": key})
            return ""
        return kept

    async def _repeatedly(
        self, work: Callable[[], Awaitable[None]], seconds: float, *, pause_after_outage: float = 0.0
    ) -> None:
        """Do `work` every so often. After an outage those who hold leases get time to beat first."""
        while True:
            try:
                await work()
                pause = 0.0
            except errors.RpcError as error:
                log.debug("upkeep failed", exc_info=error)
                pause = pause_after_outage
            except Exception:
                log.exception("upkeep broke off")
                pause = pause_after_outage
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2) + pause)
