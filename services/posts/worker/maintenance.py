"""Periodic jobs: expired leases, retained images, addresses, texts to derive again, old idempotency keys.

Any number of workers may run them at the same time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from rpc import errors
from rpc.backoff import jittered
from services.posts.clients.storage import StorageClient
from services.posts.content.addresses import Addresses
from services.posts.content.texts.deriving import Deriving
from services.posts.content.texts.stale import catch_up
from services.posts.database.database import Database
from services.posts.tasks.queue import Queue
from services.posts.worker import addresses
from services.posts.worker.attempt import AttemptPolicy

log = logging.getLogger(__name__)

RETAIN_SECONDS = 2.0
EXPIRE_SECONDS = 3600.0
DERIVE_SECONDS = 5.0
ADDRESSES_SECONDS = 300.0
IN_BUCKET_SECONDS = 30.0

# A selected row gets a new time, so that several workers share the rows, and a row that fails is tried again later.
POST_IMAGES = """
UPDATE posts SET image_keep_at = clock_timestamp() + interval '30 seconds'
WHERE id IN (
    SELECT id FROM posts WHERE image_keep_at <= clock_timestamp() ORDER BY image_keep_at LIMIT 10
    FOR UPDATE SKIP LOCKED
)
RETURNING id, featured_image_key AS key
"""

POST_IMAGE_RETAINED = "UPDATE posts SET image_keep_at = NULL WHERE id = $1 AND featured_image_key = $2"

POST_IMAGE_MISSING = """
UPDATE posts SET image_keep_at = clock_timestamp() + interval '1 day' WHERE id = $1 AND featured_image_key = $2
"""

TASK_IMAGES = """
UPDATE content_tasks SET initial_image_keep_at = clock_timestamp() + interval '30 seconds'
WHERE id IN (
    SELECT id FROM content_tasks WHERE initial_image_keep_at <= clock_timestamp()
    ORDER BY initial_image_keep_at LIMIT 10 FOR UPDATE SKIP LOCKED
)
RETURNING id, parameters #>> '{initial_image,key}' AS key
"""

# Also for a missing image: the attempt reports it.
TASK_IMAGE_DONE = """
UPDATE content_tasks SET initial_image_keep_at = NULL WHERE id = $1 AND parameters #>> '{initial_image,key}' = $2
"""

TO_RETAIN = (
    (POST_IMAGES, POST_IMAGE_RETAINED, POST_IMAGE_MISSING),
    (TASK_IMAGES, TASK_IMAGE_DONE, TASK_IMAGE_DONE),
)
"""Statements: select rows whose image must be retained; after success; if storage does not have the image."""

EXPIRE_KEYS = """
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_keys WHERE create_time < clock_timestamp() - $1::interval LIMIT 1000
))
"""


class Maintenance:
    """The periodic jobs of a worker."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        storage: StorageClient,
        policy: AttemptPolicy,
        addresses: Addresses,
    ) -> None:
        """`policy`: its lease and the delays between attempts."""
        self._addresses = addresses
        self._database = database
        self._queue = queue
        self._storage = storage
        self._policy = policy

    async def reap(self, seconds: float) -> None:
        """End expired leases every `seconds`, until cancelled."""
        # After an outage the workers that hold leases send a heartbeat first.
        pause = min(self._policy.lease_seconds / 2, 10.0)
        await _repeatedly(self._reap_once, seconds, pause_after_failure=pause)

    async def retain_images(self) -> None:
        """Make storage keep the images that posts show and tasks start from, until cancelled."""
        await _repeatedly(self._retain_once, RETAIN_SECONDS)

    async def keep_addresses(self) -> None:
        """Write the addresses of now into posts, at once and then every few minutes, until cancelled.

        Later passes find the posts that a process with earlier settings wrote while it was being replaced.
        """
        await _repeatedly(
            lambda: addresses.rewrite(self._database, self._addresses), ADDRESSES_SECONDS, pause_after_failure=5.0
        )

    async def find_in_bucket(self) -> None:
        """Note which images have come into the bucket, until cancelled."""
        await _repeatedly(
            lambda: addresses.find_in_bucket(self._database, self._addresses, self._storage), IN_BUCKET_SECONDS
        )

    async def expire_keys(self, days: int) -> None:
        """Delete idempotency keys that are older than `days`, until cancelled."""
        await _repeatedly(lambda: expire_keys(self._database, days), EXPIRE_SECONDS)

    async def derive_texts(self, texts: Deriving) -> None:
        """Make HTML, excerpts and words of posts again where they are outdated, until cancelled."""

        await _repeatedly(lambda: catch_up(self._database, texts), DERIVE_SECONDS)

    async def _reap_once(self) -> None:
        if count := await self._queue.reap(self._policy.retry.base_seconds, self._policy.retry.max_seconds):
            log.warning("expired leases ended", extra={"count": count})

    async def _retain_once(self) -> None:
        for select, retained, missing in TO_RETAIN:
            for row in await self._database.fetch(select):
                try:
                    await self._storage.retain(row["key"])
                except (errors.NotFound, errors.InvalidArgument) as error:
                    log.warning("storage does not have an image: %s", error.message, extra={"key": row["key"]})
                    await self._database.execute(missing, row["id"], row["key"])
                except errors.RpcError as error:
                    log.info("an image is retained later: %s", error.message, extra={"key": row["key"]})
                else:
                    await self._database.execute(retained, row["id"], row["key"])


async def expire_keys(database: Database, days: int) -> int:
    """Delete idempotency keys that are older than `days`; the number of keys."""
    total = 0
    while count := await database.execute(EXPIRE_KEYS, timedelta(days=days)):
        total += count
    return total


async def _repeatedly(
    work: Callable[[], Awaitable[object]], seconds: float, *, pause_after_failure: float = 0.0
) -> None:
    """Do `work` about every `seconds`, until cancelled."""
    while True:
        pause = 0.0
        try:
            await work()
        except errors.RpcError as error:
            log.debug("maintenance failed", exc_info=error)
            pause = pause_after_failure
        except Exception:
            log.exception("maintenance failed unexpectedly")
            pause = pause_after_failure
        await asyncio.sleep(jittered(seconds) + pause)
