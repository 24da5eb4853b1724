"""Posts: created, read, listed, changed with their earlier versions kept, published, deleted."""

import uuid

from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content import etags, lists
from services.posts.content.addresses import Addresses
from services.posts.content.create import GET, created_earlier, insert_post, not_found, read_post
from services.posts.content.search.searches import Searches
from services.posts.content.texts import deriving, rendering
from services.posts.content.texts.deriving import Derived, Deriving
from services.posts.content.texts.stale import derive_again
from services.posts.content.update import change_post, changed
from services.posts.database import idempotency, paging, rows
from services.posts.database.database import Connection, Database
from services.posts.models import NewPost, PostChange, PostFilter

GET_BY_SLUG = """
SELECT * FROM full_posts
WHERE id = coalesce((SELECT id FROM posts WHERE slug = $1), (SELECT post_id FROM post_slugs WHERE slug = $1))
"""

TEXT = "SELECT title, content FROM posts WHERE id = $1"

LOCK = "SELECT version FROM posts WHERE id = $1 FOR UPDATE"

# Published again, a post keeps its date: a correction does not put it before newer posts.
PUBLISH = """
UPDATE posts SET state = 'published', publish_time = coalesce(first_publish_time, statement_timestamp()),
    first_publish_time = coalesce(first_publish_time, statement_timestamp()),
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

    def __init__(
        self,
        database: Database,
        texts: Deriving,
        addresses: Addresses,
        reads: Database | None = None,
        searches: Database | None = None,
    ) -> None:
        """Lists and published posts are read from `reads`, searches from `searches`, all else uses `database`."""
        self._database = database
        self._texts = texts
        self._addresses = addresses
        self._reads = reads or database
        self._searches = Searches(searches or self._reads)

    async def create(
        self, principal: str, request: p.CreatePostRequest, new: NewPost, image: p.FeaturedImage
    ) -> p.Post:
        """Create a post, or return the post of the same earlier request.

        Raises FailedPrecondition (author, category), AlreadyExists (slug, or request_id with another request).
        """
        post_id = uuid.uuid4()
        key = idempotency.Key.of(principal, "CreatePost", request)
        derived = await self._texts.derive(new.title, new.content)

        async def work(connection: Connection) -> p.Post:
            if earlier := await idempotency.reserve(connection, key, post_id):
                return await created_earlier(connection, earlier)
            return await insert_post(connection, post_id, new, derived, image, None, principal, self._addresses)

        return await self._database.transaction(work)

    async def get(self, post_id: uuid.UUID, *, include_drafts: bool) -> p.Post:
        """Read a post by id. Raises NotFound; also for a draft unless `include_drafts` is set."""
        return await self._read(GET, post_id, include_drafts)

    async def get_by_slug(self, slug: str, *, include_drafts: bool) -> p.Post:
        """Read a post by its slug, or by one that it had. Raises NotFound; also for a draft unless `include_drafts`."""
        return await self._read(GET_BY_SLUG, slug, include_drafts)

    async def _read(self, statement: str, name: uuid.UUID | str, include_drafts: bool) -> p.Post:
        row = await self._readers(include_drafts).fetchrow(statement, name)
        if row is None or (row["state"] != "published" and not include_drafts):
            raise not_found()
        fields = rows.post(row)
        if row["derived_version"] < deriving.VERSION:
            derived = await derive_again(self._database, self._texts, row, deriving.WRITE_WAIT_SECONDS)
            html, excerpt = (derived.html, derived.excerpt) if derived else rendering.plain(row["content"])
            fields |= {"html": html, "excerpt": excerpt}
        return p.Post(**fields)

    def _readers(self, include_drafts: bool) -> Database:
        """Editors, who may see drafts, do not wait for readers."""
        return self._database if include_drafts else self._reads

    async def list(
        self, filters: PostFilter, page_size: int, page_token: str, *, with_content: bool = True
    ) -> p.ListPostsResponse:
        """Posts, newest first. Raises InvalidArgument for a bad token, and what the pools for reads raise."""
        cursor = paging.cursor(page_size, page_token, "posts", filters)
        after = (cursor.time, cursor.id) if cursor.time is not None and cursor.id is not None else None
        if filters.query.strip():
            found = await self._searches.find(filters, cursor.size + 1, after, with_content=with_content)
        else:
            text, values = lists.statement(filters, cursor.size + 1, after, with_content=with_content)
            found = await self._reads.fetch(text, *values)
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

        text = await self._text(post_id, change)
        derived = await self._texts.derive(*text)

        async def work(connection: Connection) -> p.Post:
            await _lock(connection, post_id, etag)
            before = await read_post(connection, post_id)
            after = (changed(change.title, before.title), changed(change.content, before.content))
            current = derived if after == text else Derived.later(*after)
            featured = image or before.featured_image
            await change_post(connection, before, change, current, featured, principal, self._addresses)
            return await read_post(connection, post_id)

        return await self._database.transaction(work)

    async def _text(self, post_id: uuid.UUID, change: PostChange) -> tuple[str, str]:
        """Title and text after `change`, if nobody else changes them meanwhile. Raises NotFound."""
        row = await self._database.fetchrow(TEXT, post_id)
        if row is None:
            raise not_found()
        return changed(change.title, row["title"]), changed(change.content, row["content"])

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
