"""Posts: made, read, listed, changed with their former versions kept, published, deleted."""

import uuid
from dataclasses import dataclass, replace

import asyncpg

from rpc import errors
from services.posts import idempotency, paging, rows, search
from services.posts.database import Connection, Database
from services.posts.models import Draft, FeaturedImage, Post, PostState
from services.posts.slugs import numbered, slugify

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

UNTAG_POST = "DELETE FROM post_tags WHERE post_id = $1"

GET = "SELECT * FROM post_records WHERE id = $1"

GET_BY_SLUG = "SELECT * FROM post_records WHERE slug = $1"

LIST = """
SELECT * FROM post_records p
WHERE ($1::text IS NULL OR p.state = $1)
    AND ($2::text IS NULL OR p.id IN (
        SELECT pt.post_id FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE g.name = $2))
    AND ($3::text IS NULL OR p.category_id IN (SELECT id FROM categories WHERE slug = $3 OR id::text = lower($3)))
    AND ($4::text IS NULL OR p.author_id IN (SELECT id FROM authors WHERE slug = $4 OR id::text = lower($4)))
    AND ($5::text IS NULL OR p.id IN (SELECT id FROM posts WHERE search @@ to_tsquery('simple', $5)))
    AND ($6::timestamptz IS NULL OR (p.sort_time, p.id) < ($6, $7::uuid))
ORDER BY p.sort_time DESC, p.id DESC LIMIT $8
"""

LOCK = "SELECT version FROM posts WHERE id = $1 FOR UPDATE"

KEEP_REVISION = """
INSERT INTO post_revisions (post_id, version, slug, title, content, featured_image_key, featured_image_url, alt_text,
    author_id, category_id, tags, updated_by, update_time)
SELECT id, version, slug, title, content, featured_image_key, featured_image_url, alt_text,
    author_id, category_id, tags, updated_by, update_time
FROM post_records WHERE id = $1
"""

UPDATE = """
UPDATE posts SET slug = $2, title = $3, content = $4, author_id = $5, category_id = $6, updated_by = $7,
    image_keep_at = CASE WHEN featured_image_key <> $8 THEN clock_timestamp() ELSE image_keep_at END,
    featured_image_key = $8, featured_image_url = $9, alt_text = $10, image_width = $11, image_height = $12,
    image_thumbhash = $13, image_source = $14, search = to_tsvector('simple', $15), version = version + 1,
    update_time = clock_timestamp()
WHERE id = $1
"""

PUBLISH = """
UPDATE posts SET state = 'published', publish_time = clock_timestamp(),
    updated_by = $2, version = version + 1, update_time = clock_timestamp()
WHERE id = $1 AND state = 'draft'
"""

UNPUBLISH = """
UPDATE posts SET state = 'draft', publish_time = NULL,
    updated_by = $2, version = version + 1, update_time = clock_timestamp()
WHERE id = $1 AND state = 'published'
"""

DELETE = "DELETE FROM posts WHERE id = $1"


@dataclass(frozen=True)
class Filter:
    """Which posts to list; None and "": any. `category` and `author` are a slug or an id."""

    state: PostState | None = None
    tag: str = ""
    category: str = ""
    author: str = ""
    query: str = ""


@dataclass(frozen=True)
class Change:
    """What of a post changes; None: it stays. `image` has "" as alt_text where it keeps the former one."""

    title: str | None = None
    content: str | None = None
    slug: str | None = None
    author_id: uuid.UUID | None = None
    category_id: uuid.UUID | None = None
    tags: tuple[str, ...] | None = None
    alt_text: str | None = None
    image: FeaturedImage | None = None


class Posts:
    """What callers do with posts. Every method raises Unavailable when the database cannot serve."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    async def create(self, principal: str, request_id: str, draft: Draft, image: FeaturedImage) -> Post:
        """Make a post, or find the one made by the same request.

        Raises FailedPrecondition (author, category), AlreadyExists (slug, or request_id with another body).
        """
        post_id = uuid.uuid4()
        request_hash = idempotency.digest(draft, image.key)

        async def work(connection: Connection) -> Post:
            if request_id:
                earlier = await idempotency.reserve(
                    connection, principal, "CreatePost", request_id, request_hash, post_id
                )
                if earlier:
                    return await _made_earlier(connection, earlier)
            return await insert_post(connection, post_id, draft, image, None, principal)

        return await self._database.transaction(work)

    async def get(self, post_id: uuid.UUID, *, include_drafts: bool) -> Post:
        """Read a post by id. Raises NotFound, also for a draft unless those are included."""
        return _visible(await self._database.fetchrow(GET, post_id), include_drafts)

    async def get_by_slug(self, slug: str, *, include_drafts: bool) -> Post:
        """Read a post by slug. Raises NotFound, also for a draft unless those are included."""
        return _visible(await self._database.fetchrow(GET_BY_SLUG, slug), include_drafts)

    async def list(self, wanted: Filter, page_size: int, page_token: str) -> paging.Page[Post]:
        """Posts, newest first. Raises InvalidArgument for a bad token."""
        at = paging.cursor(page_size, page_token, "posts", wanted)
        found = await self._database.fetch(
            LIST,
            wanted.state,
            wanted.tag or None,
            wanted.category or None,
            wanted.author or None,
            search.query(wanted.query),
            at.time,
            at.id,
            at.size + 1,
        )
        times = {row["id"]: row["sort_time"] for row in found}
        return paging.page(
            [rows.post(row) for row in found], at, lambda post: (paging.microseconds(times[post.id]), str(post.id))
        )

    async def update(self, principal: str, post_id: uuid.UUID, etag: str, change: Change) -> Post:
        """Change a post and keep what it was as a revision.

        Raises NotFound, Aborted (etag), FailedPrecondition (author, category), AlreadyExists (slug).
        """

        async def work(connection: Connection) -> Post:
            if await connection.fetchval(LOCK, post_id) is None:
                raise _not_found()
            before = rows.post(await _row(connection, post_id))
            if etag and etag != before.etag:
                raise errors.Aborted(
                    "the post was changed meanwhile", reason="ETAG_MISMATCH", metadata={"etag": before.etag}
                )
            await connection.execute(KEEP_REVISION, post_id)
            await _apply(connection, before, change, principal)
            return rows.post(await _row(connection, post_id))

        return await self._database.transaction(work)

    async def publish(self, principal: str, post_id: uuid.UUID) -> Post:
        """Make a post public. Raises NotFound."""
        return await self._change_state(PUBLISH, principal, post_id)

    async def unpublish(self, principal: str, post_id: uuid.UUID) -> Post:
        """Make a post a draft again. Raises NotFound."""
        return await self._change_state(UNPUBLISH, principal, post_id)

    async def delete(self, post_id: uuid.UUID) -> None:
        """Delete a post and its revisions. Raises NotFound."""
        if await self._database.execute(DELETE, post_id) == 0:
            raise _not_found()

    async def _change_state(self, statement: str, principal: str, post_id: uuid.UUID) -> Post:
        async def work(connection: Connection) -> Post:
            await connection.execute(statement, post_id, principal)
            return rows.post(await _row(connection, post_id))

        return await self._database.transaction(work)


async def insert_post(
    connection: Connection,
    post_id: uuid.UUID,
    draft: Draft,
    image: FeaturedImage,
    task_id: uuid.UUID | None,
    principal: str,
) -> Post:
    """Make a post in the transaction of `connection`. Raises FailedPrecondition, AlreadyExists (the slug is taken)."""
    author_id = await _find(connection, FIND_AUTHOR, "author", draft.author_id)
    category_id = await _find(connection, FIND_CATEGORY, "category", draft.category_id)
    state = PostState.PUBLISHED if draft.publish else PostState.DRAFT
    stem = draft.slug or slugify(draft.title, "post")
    slug = stem
    words = search.fold(f"{draft.title} {draft.content}")
    for number in range(8):
        values = (post_id, slug, state, draft.title, draft.content, author_id, category_id, task_id, principal)
        if await connection.fetchval(INSERT, *values, *_image_values(image), words) is not None:
            break
        if draft.slug:
            raise _slug_taken(slug)
        # Others may take the same number at the same moment; after some tries a random ending wins.
        shorter = stem[:90].rstrip("-")
        ending = await connection.fetchval(NEXT_NUMBER, shorter) if number < 5 else uuid.uuid4().hex[:8]
        slug = numbered(shorter, ending)
    else:
        raise _slug_taken(stem)
    await _set_tags(connection, post_id, draft.tags)
    return rows.post(await _row(connection, post_id))


async def _apply(connection: Connection, before: Post, change: Change, principal: str) -> None:
    author_id = before.author.id
    if change.author_id:
        author_id = await _find(connection, FIND_AUTHOR, "author", change.author_id)
    category_id = before.category.id
    if change.category_id:
        category_id = await _find(connection, FIND_CATEGORY, "category", change.category_id)
    title = before.title if change.title is None else change.title
    content = before.content if change.content is None else change.content
    picture = change.image or before.featured_image
    alt_text = before.featured_image.alt_text if change.alt_text is None else change.alt_text or title
    words = search.fold(f"{title} {content}")
    slug = change.slug or before.slug
    values = (before.id, slug, title, content, author_id, category_id, principal)
    image = _image_values(replace(picture, alt_text=alt_text))
    try:
        await connection.execute(UPDATE, *values, *image, words)
    except asyncpg.UniqueViolationError:
        raise _slug_taken(slug) from None
    if change.tags is not None:
        await connection.execute(UNTAG_POST, before.id)
        await _set_tags(connection, before.id, change.tags)


async def _set_tags(connection: Connection, post_id: uuid.UUID, tags: tuple[str, ...]) -> None:
    if tags:
        await connection.execute(ADD_TAGS, list(tags))
        await connection.execute(TAG_POST, post_id, list(tags))


async def _find(connection: Connection, statement: str, noun: str, wanted: uuid.UUID | None) -> uuid.UUID:
    found: uuid.UUID | None = await connection.fetchval(statement, wanted)
    if found is None:
        raise errors.FailedPrecondition(
            f"there is no {noun} {wanted}" if wanted else f"there is no {noun} yet",
            reason=f"{noun.upper()}_NOT_FOUND",
        )
    return found


async def _row(connection: Connection, post_id: uuid.UUID) -> asyncpg.Record:
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise _not_found()
    return row


async def _made_earlier(connection: Connection, post_id: uuid.UUID) -> Post:
    row = await connection.fetchrow(GET, post_id)
    if row is None:
        raise errors.FailedPrecondition("the post of this request_id was deleted since", reason="POST_DELETED")
    return rows.post(row)


def _image_values(image: FeaturedImage) -> tuple[object, ...]:
    return (image.key, image.url, image.alt_text, image.width, image.height, image.thumbhash, image.image_source)


def _visible(row: asyncpg.Record | None, include_drafts: bool) -> Post:
    if row is None or (row["state"] != PostState.PUBLISHED and not include_drafts):
        raise _not_found()
    return rows.post(row)


def _not_found() -> errors.NotFound:
    return errors.NotFound("there is no such post", reason="POST_NOT_FOUND")


def _slug_taken(slug: str) -> errors.AlreadyExists:
    return errors.AlreadyExists(f"the slug {slug!r} is taken", reason="SLUG_TAKEN", metadata={"slug": slug})
