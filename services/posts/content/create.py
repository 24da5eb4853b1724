"""Making the row of a post, in a transaction that may make more: by hand, or by the approval of a task."""

import uuid

from rpc import errors
from services.posts.content import search
from services.posts.content.slugs import numbered, slugify
from services.posts.database import rows
from services.posts.database.pool import Connection
from services.posts.models import Draft, FeaturedImage, Post, PostState

GET = "SELECT * FROM full_posts WHERE id = $1"

INSERT = """
INSERT INTO posts (id, slug, state, title, content, author_id, category_id, task_id, created_by, updated_by,
    publish_time, featured_image_key, featured_image_url, alt_text, image_width, image_height, image_thumbhash,
    image_source, image_keep_at, search)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, CASE WHEN $3 = 'published' THEN clock_timestamp() END,
    $10, $11, $12, $13, $14, $15, $16, clock_timestamp(), to_tsvector('simple', $17))
ON CONFLICT (slug) DO NOTHING
RETURNING id
"""

NEXT_NUMBER = """
SELECT coalesce(max(substring(slug FROM length($1) + 2)::bigint), 1) + 1 FROM posts
WHERE slug LIKE $1 || '-%' AND substring(slug FROM length($1) + 2) ~ '^[0-9]{1,9}$'
"""

FIND_AUTHOR = """
SELECT id FROM authors WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1
"""

FIND_CATEGORY = """
SELECT id FROM categories WHERE $1::uuid IS NULL OR id = $1 ORDER BY create_time, id LIMIT 1
"""

# In the order of names, so that two posts with the same new tags cannot wait for each other.
ADD_TAGS = "INSERT INTO tags (name) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING"

TAG_POST = """
INSERT INTO post_tags (post_id, tag_id, position)
SELECT $1, g.id, n.position - 1 FROM unnest($2::text[]) WITH ORDINALITY n (name, position) JOIN tags g USING (name)
"""


async def insert_post(
    connection: Connection,
    post_id: uuid.UUID,
    draft: Draft,
    image: FeaturedImage,
    task_id: uuid.UUID | None,
    principal: str,
) -> Post:
    """Make a post in the transaction of `connection`. Raises FailedPrecondition, AlreadyExists (the slug is taken)."""
    author_id = await find_author(connection, draft.author_id)
    category_id = await find_category(connection, draft.category_id)
    state = PostState.PUBLISHED if draft.publish else PostState.DRAFT
    stem = draft.slug or slugify(draft.title, "post")
    slug = stem
    words = search.fold(f"{draft.title} {draft.content}")
    for number in range(8):
        values = (post_id, slug, state, draft.title, draft.content, author_id, category_id, task_id, principal)
        if await connection.fetchval(INSERT, *values, *image_values(image), words) is not None:
            break
        if draft.slug:
            raise slug_taken(slug)
        # Others may take the same number at the same moment; after some tries a random ending wins.
        shorter = stem[:90].rstrip("-")
        ending = await connection.fetchval(NEXT_NUMBER, shorter) if number < 5 else uuid.uuid4().hex[:8]
        slug = numbered(shorter, ending)
    else:
        raise slug_taken(stem)
    await set_tags(connection, post_id, draft.tags)
    return await read_post(connection, post_id)


async def read_post(connection: Connection, post_id: uuid.UUID) -> Post:
    """Read a post, draft or not. Raises NotFound."""
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise not_found()
    return rows.post(row)


async def made_earlier(connection: Connection, post_id: uuid.UUID) -> Post:
    """Read the post that an earlier call with the same request_id made. Raises FailedPrecondition (deleted since)."""
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise errors.FailedPrecondition("the post of this request_id was deleted since", reason="POST_DELETED")
    return rows.post(row)


async def set_tags(connection: Connection, post_id: uuid.UUID, tags: tuple[str, ...]) -> None:
    """Give tags to a post that has none."""
    if tags:
        await connection.execute(ADD_TAGS, list(tags))
        await connection.execute(TAG_POST, post_id, list(tags))


async def find_author(connection: Connection, wanted: uuid.UUID | None) -> uuid.UUID:
    """The id of an author that exists; None: the first there is. Raises FailedPrecondition."""
    return await _find(connection, FIND_AUTHOR, "author", wanted)


async def find_category(connection: Connection, wanted: uuid.UUID | None) -> uuid.UUID:
    """The id of a category that exists; None: the first there is. Raises FailedPrecondition."""
    return await _find(connection, FIND_CATEGORY, "category", wanted)


async def _find(connection: Connection, statement: str, noun: str, wanted: uuid.UUID | None) -> uuid.UUID:
    found: uuid.UUID | None = await connection.fetchval(statement, wanted)
    if found is None:
        raise errors.FailedPrecondition(
            f"there is no {noun} {wanted}" if wanted else f"there is no {noun} yet",
            reason=f"{noun.upper()}_NOT_FOUND",
        )
    return found


def image_values(image: FeaturedImage) -> tuple[object, ...]:
    """The columns of a picture, in the order of the statements that write them."""
    return (image.key, image.url, image.alt_text, image.width, image.height, image.thumbhash, image.image_source)


def not_found() -> errors.NotFound:
    """The error for a post that is not there, or not for this caller."""
    return errors.NotFound("there is no such post", reason="POST_NOT_FOUND")


def slug_taken(slug: str) -> errors.AlreadyExists:
    """The error for a slug of another post."""
    return errors.AlreadyExists(f"the slug {slug!r} is taken", reason="SLUG_TAKEN", metadata={"slug": slug})
