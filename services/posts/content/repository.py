"""Posts: created, read, listed, changed with their earlier versions kept, published, deleted."""

import uuid

import asyncpg
from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content import etags, lists, search
from services.posts.content.create import (
    GET,
    created_earlier,
    find_author,
    find_category,
    insert_post,
    not_found,
    read_post,
    set_tags,
    slug_taken,
)
from services.posts.database import idempotency, paging, rows
from services.posts.database.database import Connection, Database
from services.posts.database.json_columns import to_json
from services.posts.database.sql import Sql
from services.posts.models import NewPost, PostChange, PostFilter

UNTAG_POST = "DELETE FROM post_tags WHERE post_id = $1"

GET_BY_SLUG = "SELECT * FROM full_posts WHERE slug = $1"

LOCK = "SELECT version FROM posts WHERE id = $1 FOR UPDATE"

_REVISION = "version, slug, title, content, featured_image, author_id, category_id, tags, updated_by, update_time"

KEEP_REVISION = f"""
INSERT INTO post_revisions (post_id, {_REVISION}) SELECT id, {_REVISION} FROM full_posts WHERE id = $1
"""  # noqa: S608  (constants only)

UPDATE = Sql("""
UPDATE posts SET slug = :slug, title = :title, content = :content, author_id = :author_id, category_id = :category_id,
    image_keep_at = CASE WHEN featured_image_key <> :key THEN clock_timestamp() ELSE image_keep_at END,
    featured_image = :featured_image, search = array_to_tsvector(:lexemes::text[]),
    updated_by = :actor, version = version + 1, update_time = clock_timestamp()
WHERE id = :id
""")

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


class Posts:
    """What users do with posts. Every method raises Unavailable if the database cannot serve."""

    def __init__(self, database: Database, reads: Database | None = None, searches: Database | None = None) -> None:
        """Lists and published posts are read from `reads`, searches from `searches`, all else uses `database`."""
        self._database = database
        self._reads = reads or database
        self._search = searches or self._reads

    async def create(
        self, principal: str, request: p.CreatePostRequest, new: NewPost, image: p.FeaturedImage
    ) -> p.Post:
        """Create a post, or return the post of the same earlier request.

        Raises FailedPrecondition (author, category), AlreadyExists (slug, or request_id with another request).
        """
        post_id = uuid.uuid4()
        key = idempotency.Key.of(principal, "CreatePost", request)

        async def work(connection: Connection) -> p.Post:
            if earlier := await idempotency.reserve(connection, key, post_id):
                return await created_earlier(connection, earlier)
            return await insert_post(connection, post_id, new, image, None, principal)

        return await self._database.transaction(work)

    async def get(self, post_id: uuid.UUID, *, include_drafts: bool) -> p.Post:
        """Read a post by id. Raises NotFound; also for a draft unless `include_drafts` is set."""
        return _visible(await self._readers(include_drafts).fetchrow(GET, post_id), include_drafts)

    async def get_by_slug(self, slug: str, *, include_drafts: bool) -> p.Post:
        """Read a post by slug. Raises NotFound; also for a draft unless `include_drafts` is set."""
        return _visible(await self._readers(include_drafts).fetchrow(GET_BY_SLUG, slug), include_drafts)

    def _readers(self, include_drafts: bool) -> Database:
        """Editors, who may see drafts, do not wait for readers."""
        return self._database if include_drafts else self._reads

    async def list(
        self, filters: PostFilter, page_size: int, page_token: str, *, with_content: bool = True
    ) -> p.ListPostsResponse:
        """Posts, newest first. Raises InvalidArgument for a bad token, and what the pools for reads raise."""
        cursor = paging.cursor(page_size, page_token, "posts", filters)
        after = (cursor.time, cursor.id) if cursor.time is not None and cursor.id is not None else None
        text, values = lists.statement(filters, cursor.size + 1, after, with_content=with_content)
        database = self._search if filters.query.strip() else self._reads
        found = await database.fetch(text, *values)
        page = paging.page(found, cursor, lambda row: (paging.microseconds(row["sort_time"]), str(row["id"])))
        return p.ListPostsResponse(posts=map(rows.post, page.items), next_page_token=page.next_page_token)

    async def update(
        self,
        principal: str,
        post_id: uuid.UUID,
        etag: str,
        change: PostChange,
        image: p.FeaturedImage | None = None,
    ) -> p.Post:
        """Change a post and keep its earlier version as a revision. `image` replaces the image of the post.

        Raises NotFound, Aborted (etag), FailedPrecondition (author, category), AlreadyExists (slug).
        """

        async def work(connection: Connection) -> p.Post:
            await _lock(connection, post_id, etag)
            before = await read_post(connection, post_id)
            await connection.execute(KEEP_REVISION, post_id)
            await _apply(connection, before, change, image or before.featured_image, principal)
            return await read_post(connection, post_id)

        return await self._database.transaction(work)

    async def publish(self, principal: str, post_id: uuid.UUID, etag: str = "") -> p.Post:
        """Publish a draft; a published post stays as it is. Raises NotFound, Aborted (etag)."""
        return await self._change_state(PUBLISH, principal, post_id, etag)

    async def unpublish(self, principal: str, post_id: uuid.UUID, etag: str = "") -> p.Post:
        """Make a published post a draft again. Raises NotFound, Aborted (etag)."""
        return await self._change_state(UNPUBLISH, principal, post_id, etag)

    async def delete(self, post_id: uuid.UUID, etag: str = "") -> None:
        """Delete a post and its revisions. Raises NotFound, Aborted (etag)."""

        async def work(connection: Connection) -> None:
            await _lock(connection, post_id, etag)
            await connection.execute(DELETE, post_id)

        await self._database.transaction(work)

    async def _change_state(self, statement: str, principal: str, post_id: uuid.UUID, etag: str) -> p.Post:
        async def work(connection: Connection) -> p.Post:
            await _lock(connection, post_id, etag)
            await connection.execute(statement, post_id, principal)
            return await read_post(connection, post_id)

        return await self._database.transaction(work)


async def _lock(connection: Connection, post_id: uuid.UUID, etag: str) -> None:
    """Lock a post until the transaction ends. Raises NotFound, and Aborted if the etag is not the current one."""
    version = await connection.fetchval(LOCK, post_id)
    if version is None:
        raise not_found()
    etags.check(etag, version, "post")


async def _apply(
    connection: Connection, before: p.Post, change: PostChange, image: p.FeaturedImage, principal: str
) -> None:
    author_id, category_id = uuid.UUID(before.author.id), uuid.UUID(before.category.id)
    if change.author_id:
        author_id = await find_author(connection, change.author_id)
    if change.category_id:
        category_id = await find_category(connection, change.category_id)
    title = before.title if change.title is None else change.title
    content = before.content if change.content is None else change.content
    featured = p.FeaturedImage()
    featured.CopyFrom(image)
    featured.alt_text = before.featured_image.alt_text if change.alt_text is None else change.alt_text or title
    slug = change.slug or before.slug
    statement = UPDATE(
        id=uuid.UUID(before.id),
        slug=slug,
        title=title,
        content=content,
        author_id=author_id,
        category_id=category_id,
        actor=principal,
        key=featured.image.key,
        featured_image=to_json(featured),
        lexemes=search.lexemes(title, content),
    )
    try:
        await connection.execute(*statement)
    except asyncpg.UniqueViolationError:
        raise slug_taken(slug) from None
    if change.tags is not None:
        await connection.execute(UNTAG_POST, uuid.UUID(before.id))
        await set_tags(connection, uuid.UUID(before.id), change.tags)


def _visible(row: asyncpg.Record | None, include_drafts: bool) -> p.Post:
    if row is None or (row["state"] != "published" and not include_drafts):
        raise not_found()
    return p.Post(**rows.post(row))
