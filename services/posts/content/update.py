"""Changing a post in a transaction: its former version and its former slug are kept."""

import uuid

import asyncpg
from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content.addresses import Addresses
from services.posts.content.create import IS_FORMER, find_author, find_category, slug_taken
from services.posts.content.tags import set_tags
from services.posts.content.texts.deriving import Derived
from services.posts.database.database import Connection
from services.posts.database.json_columns import to_json
from services.posts.database.sql import Sql
from services.posts.models import PostChange

_REVISION = "version, slug, title, content, featured_image, author_id, category_id, tags, updated_by, update_time"

KEEP_REVISION = f"""
INSERT INTO post_revisions (post_id, {_REVISION}) SELECT id, {_REVISION} FROM full_posts WHERE id = $1
"""  # noqa: S608  (constants only)

UPDATE = Sql("""
UPDATE posts SET slug = :slug, title = :title, content = :content, author_id = :author_id, category_id = :category_id,
    image_keep_at = CASE WHEN featured_image_key <> :key THEN clock_timestamp() ELSE image_keep_at END,
    featured_image = :featured_image, featured_image_url = :image_url,
    search = array_to_tsvector(:lexemes::text[]), html = :html, excerpt = :excerpt,
    derived_version = :derived_version,
    updated_by = :actor, version = version + 1, update_time = clock_timestamp()
WHERE id = :id
""")

# A slug under which the post was public leads to it for ever. A slug that it takes back is its own again.
KEEP_SLUG = Sql("""
INSERT INTO post_slugs (slug, post_id)
SELECT slug, id FROM posts WHERE id = :id AND first_publish_time IS NOT NULL AND slug <> :slug
""")
TAKE_BACK_SLUG = "DELETE FROM post_slugs WHERE slug = $1 AND post_id = $2"

UNTAG_POST = "DELETE FROM post_tags WHERE post_id = $1"


async def change_post(
    connection: Connection,
    before: p.Post,
    change: PostChange,
    derived: Derived,
    image: p.FeaturedImage,
    principal: str,
    addresses: Addresses,
) -> None:
    """Change a post whose row is locked and keep its earlier version as a revision.

    Raises FailedPrecondition (author, category), AlreadyExists (slug).
    """
    post_id, slug = uuid.UUID(before.id), change.slug or before.slug
    author_id, category_id = uuid.UUID(before.author.id), uuid.UUID(before.category.id)
    if change.author_id:
        author_id = await find_author(connection, change.author_id)
    if change.category_id:
        category_id = await find_category(connection, change.category_id)
    title = changed(change.title, before.title)
    featured = p.FeaturedImage()
    featured.CopyFrom(image)
    featured.alt_text = before.featured_image.alt_text if change.alt_text is None else change.alt_text or title
    statement = UPDATE(
        id=post_id,
        slug=slug,
        title=title,
        content=changed(change.content, before.content),
        author_id=author_id,
        category_id=category_id,
        actor=principal,
        key=featured.image.key,
        featured_image=to_json(featured),
        image_url=addresses.image_url(featured.image),
        lexemes=derived.lexemes,
        html=derived.html,
        excerpt=derived.excerpt,
        derived_version=derived.version,
    )
    await connection.execute(KEEP_REVISION, post_id)
    await connection.execute(*KEEP_SLUG(id=post_id, slug=slug))
    try:
        await connection.execute(*statement)
    except asyncpg.UniqueViolationError:
        raise slug_taken(slug) from None
    if slug != before.slug and await connection.fetchval(IS_FORMER, slug, post_id):
        raise slug_taken(slug)
    await connection.execute(TAKE_BACK_SLUG, slug, post_id)
    if change.tags is not None:
        await connection.execute(UNTAG_POST, post_id)
        await set_tags(connection, post_id, change.tags)


def changed(new: str | None, before: str) -> str:
    """The value of a field after a change."""
    return before if new is None else new
