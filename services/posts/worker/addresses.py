"""Rows that hold addresses, written again when the addresses change or an image comes into the bucket."""

import asyncio
import logging
import uuid

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

# A row that another statement holds is waited for: skipped, it would keep its addresses until the next pass.
STALE = """
SELECT id, content, featured_image FROM posts WHERE address_version < $1 OR address_version > $1
ORDER BY address_version, id LIMIT $2 FOR NO KEY UPDATE
"""

REWRITE = """
UPDATE posts p SET featured_image_url = n.url, content = n.content, address_version = $1,
    version = p.version + (p.content <> n.content)::integer,
    derived_version = CASE WHEN n.has_address THEN 0 ELSE p.derived_version END
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[]) n (id, url, content, has_address) WHERE p.id = n.id
"""

POSTS = """
SELECT id, featured_image_key AS key, featured_image FROM posts
WHERE featured_image #>> '{image,in_bucket}' IS DISTINCT FROM 'true' AND id > $1 ORDER BY id LIMIT $2
"""

POST_IN_BUCKET = """
UPDATE posts SET featured_image = $3, featured_image_url = $4 WHERE id = $1 AND featured_image_key = $2
"""

TASK_IMAGES = """
SELECT task_id, index, key, image FROM task_images
WHERE image #>> '{image,in_bucket}' IS DISTINCT FROM 'true' AND (task_id, index) > ($1, $2)
ORDER BY task_id, index LIMIT $3
"""

TASK_IMAGE_IN_BUCKET = "UPDATE task_images SET image = $3 WHERE task_id = $1 AND index = $2"

# Between two questions to storage: many images may stay on a disk for ever.
ASK_SECONDS = 0.02

_FIRST = uuid.UUID(int=0)


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


async def find_in_bucket(database: Database, addresses: Addresses, storage: StorageClient) -> None:
    """Note which images have come into the bucket, where a CDN reaches them. Raises what storage and database raise."""
    if not addresses.urls.cdn_base_url:
        return
    last = _FIRST
    while found := await database.fetch(POSTS, last, BATCH):
        for row in found:
            if await _is_in_bucket(storage, row["key"]):
                featured = from_json(p.FeaturedImage, row["featured_image"])
                featured.image.in_bucket = True
                url = addresses.image_url(featured.image)
                await database.execute(POST_IN_BUCKET, row["id"], row["key"], to_json(featured), url)
        last = found[-1]["id"]
    after = (_FIRST, -1)
    while found := await database.fetch(TASK_IMAGES, *after, BATCH):
        for row in found:
            if await _is_in_bucket(storage, row["key"]):
                image = from_json(t.TaskImage, row["image"])
                image.image.in_bucket = True
                await database.execute(TASK_IMAGE_IN_BUCKET, row["task_id"], row["index"], to_json(image))
        after = (found[-1]["task_id"], found[-1]["index"])


async def _is_in_bucket(storage: StorageClient, key: str) -> bool:
    await asyncio.sleep(ASK_SECONDS)
    try:
        return (await storage.describe(key)).backend == images_pb2.IMAGE_BACKEND_S3
    except (errors.NotFound, errors.InvalidArgument):
        return False
