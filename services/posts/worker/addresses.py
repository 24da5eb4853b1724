"""Rows that hold addresses, written again when the addresses change or an image leaves the spool of storage."""

import logging

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from services.posts.clients.storage import StorageClient
from services.posts.content.addresses import Addresses
from services.posts.database.database import Connection, Database
from services.posts.database.json_columns import from_json, to_json

log = logging.getLogger(__name__)

BATCH = 200

STALE = """
SELECT id, content, featured_image FROM posts WHERE address_version < $1 OR address_version > $1
ORDER BY address_version LIMIT $2 FOR UPDATE SKIP LOCKED
"""

REWRITE = """
UPDATE posts p SET featured_image_url = n.url, content = n.content, address_version = $1,
    version = p.version + (p.content <> n.content)::integer,
    derived_version = CASE WHEN n.has_address THEN 0 ELSE p.derived_version END
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[]) n (id, url, content, has_address) WHERE p.id = n.id
"""

SPOOLED_POSTS = """
SELECT id, featured_image_key AS key, featured_image FROM posts
WHERE featured_image #>> '{image,spooled}' = 'true' LIMIT $1 FOR UPDATE SKIP LOCKED
"""

POST_MOVED = "UPDATE posts SET featured_image = $2, featured_image_url = $3 WHERE id = $1"

SPOOLED_TASK_IMAGES = """
SELECT task_id, index, key, image FROM task_images
WHERE image #>> '{image,spooled}' = 'true' LIMIT $1 FOR UPDATE SKIP LOCKED
"""

TASK_IMAGE_MOVED = "UPDATE task_images SET image = $3 WHERE task_id = $1 AND index = $2"


async def rewrite(database: Database, addresses: Addresses) -> int:
    """Write the addresses of now into all posts that have earlier ones; the number of posts. Raises Unavailable."""
    total = 0
    while count := await database.transaction(lambda connection: _rewrite_some(connection, addresses)):
        total += count
    if total:
        log.info("addresses of posts written again", extra={"count": total, "site": addresses.site})
    return total


async def _rewrite_some(connection: Connection, addresses: Addresses) -> int:
    found = await connection.fetch(STALE, addresses.version, BATCH)
    if found:
        images = [from_json(p.FeaturedImage, row["featured_image"]).image for row in found]
        texts = [addresses.rewritten(row["content"]) for row in found]
        await connection.execute(
            REWRITE,
            addresses.version,
            [row["id"] for row in found],
            [addresses.image_url(image) for image in images],
            texts,
            # Their links have other addresses now, and what was another site may be this one.
            [any(base in text for base in (addresses.site, *addresses.image_bases)) for text in texts],
        )
    return len(found)


async def settle(database: Database, addresses: Addresses, storage: StorageClient) -> None:
    """Note which images have left the spool of storage. Raises Unavailable, and what storage raises."""
    keys: dict[str, bool] = {}

    async def has_moved(key: str) -> bool:
        if key not in keys:
            try:
                keys[key] = (await storage.describe(key)).backend != images_pb2.IMAGE_BACKEND_SPOOL
            except errors.NotFound:
                keys[key] = False
        return keys[key]

    async def posts(connection: Connection) -> None:
        for row in await connection.fetch(SPOOLED_POSTS, BATCH):
            if await has_moved(row["key"]):
                featured = from_json(p.FeaturedImage, row["featured_image"])
                featured.image.spooled = False
                url = addresses.image_url(featured.image)
                await connection.execute(POST_MOVED, row["id"], to_json(featured), url)

    async def task_images(connection: Connection) -> None:
        for row in await connection.fetch(SPOOLED_TASK_IMAGES, BATCH):
            if await has_moved(row["key"]):
                image = from_json(t.TaskImage, row["image"])
                image.image.spooled = False
                await connection.execute(TASK_IMAGE_MOVED, row["task_id"], row["index"], to_json(image))

    await database.transaction(posts)
    await database.transaction(task_images)
