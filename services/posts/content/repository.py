"""Posts: made, read, listed, changed with their former versions kept, published, deleted."""

import uuid
from dataclasses import dataclass, replace

import asyncpg

from rpc import errors
from services.posts.content import search
from services.posts.content.create import (
    GET,
    find_author,
    find_category,
    image_values,
    insert_post,
    made_earlier,
    not_found,
    read_post,
    set_tags,
    slug_taken,
)
from services.posts.database import idempotency, paging, rows
from services.posts.database.database import Database
from services.posts.database.pool import Connection
from services.posts.database.where import Conditions
from services.posts.models import Draft, FeaturedImage, Post, PostState

UNTAG_POST = "DELETE FROM post_tags WHERE post_id = $1"

GET_BY_SLUG = "SELECT * FROM full_posts WHERE slug = $1"

LIST = "SELECT * FROM full_posts p {where} ORDER BY p.sort_time DESC, p.id DESC LIMIT {limit}"

TAGGED = """
p.id IN (SELECT pt.post_id FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE g.name = {0})
"""

IN_CATEGORY = "p.category_id IN (SELECT id FROM categories WHERE slug = {0} OR id::text = lower({0}))"

BY_AUTHOR = "p.author_id IN (SELECT id FROM authors WHERE slug = {0} OR id::text = lower({0}))"

MATCHING = "p.id IN (SELECT id FROM posts WHERE search @@ to_tsquery('simple', {0}))"

AFTER = "(p.sort_time, p.id) < ({0}, {1})"

LOCK = "SELECT version FROM posts WHERE id = $1 FOR UPDATE"

KEEP_REVISION = """
INSERT INTO post_revisions (post_id, version, slug, title, content, featured_image_key, featured_image_url, alt_text,
    author_id, category_id, tags, updated_by, update_time)
SELECT id, version, slug, title, content, featured_image_key, featured_image_url, alt_text,
    author_id, category_id, tags, updated_by, update_time
FROM full_posts WHERE id = $1
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
            earlier = await idempotency.reserve(connection, principal, "CreatePost", request_id, request_hash, post_id)
            if earlier:
                return await made_earlier(connection, earlier)
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
        asked = _conditions(wanted)
        if at.time is not None:
            asked.add(AFTER, at.time, at.id)
        statement = LIST.format(where=asked.where, limit=asked.place(at.size + 1))
        found = await self._database.fetch(statement, *asked.values)
        page = paging.page(found, at, lambda row: (paging.microseconds(row["sort_time"]), str(row["id"])))
        return page.map(rows.post)

    async def update(self, principal: str, post_id: uuid.UUID, etag: str, change: Change) -> Post:
        """Change a post and keep what it was as a revision.

        Raises NotFound, Aborted (etag), FailedPrecondition (author, category), AlreadyExists (slug).
        """

        async def work(connection: Connection) -> Post:
            if await connection.fetchval(LOCK, post_id) is None:
                raise not_found()
            before = await read_post(connection, post_id)
            if etag and etag != before.etag:
                raise errors.Aborted(
                    "the post was changed meanwhile", reason="ETAG_MISMATCH", metadata={"etag": before.etag}
                )
            await connection.execute(KEEP_REVISION, post_id)
            await _apply(connection, before, change, principal)
            return await read_post(connection, post_id)

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
            raise not_found()

    async def _change_state(self, statement: str, principal: str, post_id: uuid.UUID) -> Post:
        async def work(connection: Connection) -> Post:
            await connection.execute(statement, post_id, principal)
            return await read_post(connection, post_id)

        return await self._database.transaction(work)


def _conditions(wanted: Filter) -> Conditions:
    asked = Conditions()
    query = search.query(wanted.query)
    for condition, value in (
        ("p.state = {0}", wanted.state),
        (TAGGED, wanted.tag),
        (IN_CATEGORY, wanted.category),
        (BY_AUTHOR, wanted.author),
    ):
        if value:
            asked.add(condition, value)
    if query is not None:
        asked.add(MATCHING, query)
    return asked


async def _apply(connection: Connection, before: Post, change: Change, principal: str) -> None:
    author_id = before.author.id
    if change.author_id:
        author_id = await find_author(connection, change.author_id)
    category_id = before.category.id
    if change.category_id:
        category_id = await find_category(connection, change.category_id)
    title = before.title if change.title is None else change.title
    content = before.content if change.content is None else change.content
    picture = change.image or before.featured_image
    alt_text = before.featured_image.alt_text if change.alt_text is None else change.alt_text or title
    words = search.fold(f"{title} {content}")
    slug = change.slug or before.slug
    values = (before.id, slug, title, content, author_id, category_id, principal)
    image = image_values(replace(picture, alt_text=alt_text))
    try:
        await connection.execute(UPDATE, *values, *image, words)
    except asyncpg.UniqueViolationError:
        raise slug_taken(slug) from None
    if change.tags is not None:
        await connection.execute(UNTAG_POST, before.id)
        await set_tags(connection, before.id, change.tags)


def _visible(row: asyncpg.Record | None, include_drafts: bool) -> Post:
    if row is None or (row["state"] != PostState.PUBLISHED and not include_drafts):
        raise not_found()
    return rows.post(row)
