"""Inserting a post in a transaction: for CreatePost, and for the approval of a task."""

import uuid

from frontispiece.posts.v1 import posts_pb2 as p

from rpc import errors
from services.posts.content import search
from services.posts.content.slugs import numbered, slugify
from services.posts.database import rows
from services.posts.database.database import Connection
from services.posts.database.json_columns import to_json
from services.posts.database.sql import Sql
from services.posts.models import NewPost

GET = "SELECT * FROM full_posts WHERE id = $1"

INSERT = Sql("""
INSERT INTO posts (id, slug, state, title, content, author_id, category_id, task_id, created_by, updated_by,
    publish_time, featured_image, image_keep_at, search)
VALUES (:id, :slug, :state, :title, :content, :author_id, :category_id, :task_id, :actor, :actor,
    CASE WHEN :state = 'published' THEN clock_timestamp() END,
    :featured_image, clock_timestamp(), array_to_tsvector(:lexemes::text[]))
ON CONFLICT (slug) DO NOTHING
RETURNING id
""")

NEXT_NUMBER = """
SELECT coalesce(max(substring(slug FROM length($1) + 2)::bigint), 1) + 1 FROM posts
WHERE slug LIKE $1 || '-%' AND substring(slug FROM length($1) + 2) ~ '^[0-9]{1,9}$'
"""

FIND_AUTHOR = "SELECT id FROM authors WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1"

FIND_CATEGORY = "SELECT id FROM categories WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1"

# In the order of names, so that two posts with the same new tags cannot deadlock.
ADD_TAGS = "INSERT INTO tags (name) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING"

TAG_POST = """
INSERT INTO post_tags (post_id, tag_id, position)
SELECT $1, g.id, n.position - 1 FROM unnest($2::text[]) WITH ORDINALITY n (name, position) JOIN tags g USING (name)
"""

# Several calls may compute the same next number at the same moment. The last tries use a random ending.
_NUMBERED_TRIES, _RANDOM_TRIES = 5, 2


async def insert_post(
    connection: Connection,
    post_id: uuid.UUID,
    new: NewPost,
    image: p.FeaturedImage,
    task_id: uuid.UUID | None,
    principal: str,
) -> p.Post:
    """Insert a post and its tags. Raises FailedPrecondition (author, category), AlreadyExists (the slug is taken)."""
    author_id = await find_author(connection, new.author_id)
    category_id = await find_category(connection, new.category_id)
    stem = new.slug or slugify(new.title, "post")
    slug = stem
    for number in range(1 + _NUMBERED_TRIES + _RANDOM_TRIES):
        statement = INSERT(
            id=post_id,
            slug=slug,
            state="published" if new.publish else "draft",
            title=new.title,
            content=new.content,
            author_id=author_id,
            category_id=category_id,
            task_id=task_id,
            actor=principal,
            featured_image=to_json(image),
            lexemes=search.lexemes(new.title, new.content),
        )
        if await connection.fetchval(*statement) is not None:
            break
        if new.slug:
            raise slug_taken(slug)
        shorter = stem[:90].rstrip("-")
        is_numbered = number < _NUMBERED_TRIES
        ending = await connection.fetchval(NEXT_NUMBER, shorter) if is_numbered else uuid.uuid4().hex[:8]
        slug = numbered(shorter, ending)
    else:
        raise slug_taken(stem)
    await set_tags(connection, post_id, new.tags)
    return await read_post(connection, post_id)


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


async def set_tags(connection: Connection, post_id: uuid.UUID, tags: tuple[str, ...]) -> None:
    """Add tags to a post that has none."""
    if tags:
        await connection.execute(ADD_TAGS, list(tags))
        await connection.execute(TAG_POST, post_id, list(tags))


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
    """The error for a slug of another post."""
    return errors.AlreadyExists(f"the slug {slug!r} is taken", reason="SLUG_TAKEN", metadata={"slug": slug})
