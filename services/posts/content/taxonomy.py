"""Authors, categories and tags."""

# ruff: noqa: S608  (the names of the two tables are constants)

import uuid
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p

from rpc import errors
from services.posts.content.slugs import ATTEMPTS, candidate, slugify
from services.posts.database import paging
from services.posts.database.database import Connection, Database, Record

_COLUMNS = "id, slug, name, sort_name, id = (SELECT id FROM {table} ORDER BY create_time, id LIMIT 1) AS is_default"

CREATE = """
INSERT INTO {table} (slug, name, created_by) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING RETURNING id
"""

GET = f"SELECT {_COLUMNS} FROM {{table}} WHERE id = $1"

# Where lists begin: before the first count or name. A condition that is left out at first would need a plan of its own.
_MOST = 2**31 - 1
_FIRST_ID = uuid.UUID(int=0)

LIST = f"""
SELECT {_COLUMNS} FROM {{table}} WHERE (sort_name, id) > ($1::text, $2::uuid)
ORDER BY sort_name, id LIMIT $3
"""

LIST_TAGS = """
SELECT name, post_count FROM tags
WHERE post_count > 0 AND (-post_count, name) > (-$1::bigint, $2::text)
ORDER BY -post_count, name LIMIT $3
"""


class Taxonomy:
    """Authors, categories and tags. Every method raises Unavailable if the database cannot serve."""

    def __init__(self, database: Database, reads: Database | None = None) -> None:
        """Read from `reads`, write to `database`."""
        self._database = database
        self._reads = reads or database

    async def create_author(self, principal: str, name: str, slug: str) -> p.Author:
        """Add an author. Without a slug, one is made from the name. Raises AlreadyExists (the slug is taken)."""
        return p.Author(**_named(await self._create("authors", principal, name, slug, "author")))

    async def create_category(self, principal: str, name: str, slug: str) -> p.Category:
        """Add a category. Without a slug, one is made from the name. Raises AlreadyExists (the slug is taken)."""
        return p.Category(**_named(await self._create("categories", principal, name, slug, "category")))

    async def authors(self, page_size: int, page_token: str) -> p.ListAuthorsResponse:
        """Authors by name. Raises InvalidArgument for a bad token."""
        page = await self._list("authors", page_size, page_token)
        return p.ListAuthorsResponse(authors=map(_named, page.items), next_page_token=page.next_page_token)

    async def categories(self, page_size: int, page_token: str) -> p.ListCategoriesResponse:
        """Categories by name. Raises InvalidArgument for a bad token."""
        page = await self._list("categories", page_size, page_token)
        return p.ListCategoriesResponse(categories=map(_named, page.items), next_page_token=page.next_page_token)

    async def tags(self, page_size: int, page_token: str) -> p.ListTagsResponse:
        """Tags of published posts, the most used first. Raises InvalidArgument for a bad token."""
        cursor = paging.cursor(page_size, page_token, "tags", tie=str)
        found = await self._reads.fetch(
            LIST_TAGS, _MOST if cursor.sort is None else cursor.sort, cursor.tie or "", cursor.size + 1
        )
        page = paging.page(found, cursor, lambda row: (row["post_count"], row["name"]))
        return p.ListTagsResponse(tags=[dict(row) for row in page.items], next_page_token=page.next_page_token)

    async def _create(self, table: str, principal: str, name: str, slug: str, noun: str) -> Record:
        stem = slug or slugify(name, noun)

        async def work(connection: Connection) -> Record | None:
            for attempt in range(1 if slug else ATTEMPTS):
                chosen = await candidate(connection, table, stem, attempt)
                if created := await connection.fetchval(CREATE.format(table=table), chosen, name, principal):
                    return await connection.fetchrow(GET.format(table=table), created)
            return None

        row = await self._database.transaction(work)
        if row is None:
            raise errors.AlreadyExists(f"the slug {stem!r} is taken", reason="SLUG_TAKEN", metadata={"slug": stem})
        return row

    async def _list(self, table: str, page_size: int, page_token: str) -> paging.Page[Record]:
        cursor = paging.cursor(page_size, page_token, table, sort=str)
        found = await self._reads.fetch(
            LIST.format(table=table), cursor.sort or "", cursor.id or _FIRST_ID, cursor.size + 1
        )
        return paging.page(found, cursor, lambda row: (row["sort_name"], str(row["id"])))


def _named(row: Record) -> dict[str, Any]:
    """A row of authors or categories as the fields of an Author or a Category."""
    return {"id": str(row["id"]), "slug": row["slug"], "name": row["name"], "is_default": row["is_default"]}
