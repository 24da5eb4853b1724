"""Inserting a post in a transaction: for CreatePost, and for the approval of a task."""

import uuid
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p

from rpc import errors
from services.posts.content.addresses import Addresses
from services.posts.content.slugs import ATTEMPTS, candidate, slugify
from services.posts.content.tags import set_tags
from services.posts.content.texts.deriving import Derived
from services.posts.database import rows
from services.posts.database.database import Connection
from services.posts.database.json_columns import to_json
from services.posts.database.sql import Sql
from services.posts.models import NewPost

GET = "SELECT * FROM full_posts WHERE id = $1"

INSERT = Sql("""
INSERT INTO posts (id, slug, state, title, content, author_id, category_id, task_id, created_by, updated_by,
    create_time, publish_time, first_publish_time, featured_image, featured_image_url, address_version, image_keep_at,
    search, html, excerpt, derived_version)
VALUES (:id, :slug, :state, :title, :content, :author_id, :category_id, :task_id, :actor, :actor,
    statement_timestamp(), CASE WHEN :state = 'published' THEN statement_timestamp() END,
    CASE WHEN :state = 'published' THEN statement_timestamp() END,
    :featured_image, :image_url, :address_version, clock_timestamp(),
    array_to_tsvector(:lexemes::text[]), :html, :excerpt, :derived_version)
ON CONFLICT (slug) DO NOTHING
RETURNING id
""")

DELETE = "DELETE FROM posts WHERE id = $1"

# Asked after the slug was written: whoever gives a slug away at the same time has the same unique index to pass.
IS_FORMER = "SELECT EXISTS (SELECT FROM post_slugs WHERE slug = $1 AND post_id <> $2)"

SLUGS = "(SELECT slug FROM posts UNION ALL SELECT slug FROM post_slugs) taken"
"""Every slug that a post has or had."""

FIND_AUTHOR = "SELECT id FROM authors WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1"

FIND_CATEGORY = "SELECT id FROM categories WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1"


async def insert_post(
    connection: Connection,
    post_id: uuid.UUID,
    new: NewPost,
    derived: Derived,
    image: p.FeaturedImage,
    task_id: uuid.UUID | None,
    principal: str,
    addresses: Addresses,
) -> p.Post:
    """Insert a post and its tags. Raises FailedPrecondition (author, category), AlreadyExists (the slug is taken)."""
    values: dict[str, Any] = {
        "id": post_id,
        "state": "published" if new.publish else "draft",
        "title": new.title,
        "content": new.content,
        "author_id": await find_author(connection, new.author_id),
        "category_id": await find_category(connection, new.category_id),
        "task_id": task_id,
        "actor": principal,
        "featured_image": to_json(image),
        "image_url": addresses.image_url(image.image),
        "address_version": addresses.version,
        "lexemes": derived.lexemes,
        "html": derived.html,
        "excerpt": derived.excerpt,
        "derived_version": derived.version,
    }
    stem = new.slug or slugify(new.title, "post")
    for attempt in range(1 if new.slug else ATTEMPTS):
        if await _insert(connection, post_id, await candidate(connection, SLUGS, stem, attempt), values):
            break
    else:
        raise slug_taken(stem)
    await set_tags(connection, post_id, new.tags)
    return await read_post(connection, post_id)


async def _insert(connection: Connection, post_id: uuid.UUID, slug: str, values: dict[str, Any]) -> bool:
    """Insert the row, unless the slug is, or was, that of another post."""
    if await connection.fetchval(*INSERT(slug=slug, **values)) is None:
        return False
    if await connection.fetchval(IS_FORMER, slug, post_id):
        await connection.execute(DELETE, post_id)
        return False
    return True


async def read_post(connection: Connection, post_id: uuid.UUID) -> p.Post:
    """Read a post, draft or published. Raises NotFound."""
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise not_found()
    return p.Post(**rows.post(row))


async def created_earlier(connection: Connection, post_id: uuid.UUID) -> p.Post:
    """Read the post that an earlier call with the same request_id created. Raises FailedPrecondition (deleted)."""
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise errors.FailedPrecondition("the post of this request_id was deleted", reason="POST_DELETED")
    return p.Post(**rows.post(row))


async def find_author(connection: Connection, author_id: uuid.UUID | None) -> uuid.UUID:
    """The id of an existing author; None: the first one. Raises FailedPrecondition."""
    return await _find(connection, FIND_AUTHOR, "author", author_id)


async def find_category(connection: Connection, category_id: uuid.UUID | None) -> uuid.UUID:
    """The id of an existing category; None: the first one. Raises FailedPrecondition."""
    return await _find(connection, FIND_CATEGORY, "category", category_id)


async def _find(connection: Connection, statement: str, noun: str, requested: uuid.UUID | None) -> uuid.UUID:
    found: uuid.UUID | None = await connection.fetchval(statement, requested)
    if found is None:
        raise errors.FailedPrecondition(
            f"there is no {noun} {requested}" if requested else f"there is no {noun} yet",
            reason=f"{noun.upper()}_NOT_FOUND",
        )
    return found


def not_found() -> errors.NotFound:
    """The error for a post that does not exist or that the caller must not see."""
    return errors.NotFound("the post does not exist", reason="POST_NOT_FOUND")


def slug_taken(slug: str) -> errors.AlreadyExists:
    """The error for a slug that another post has or had."""
    return errors.AlreadyExists(
        f"the slug {slug!r} is that of another post, or was it earlier", reason="SLUG_TAKEN", metadata={"slug": slug}
    )
