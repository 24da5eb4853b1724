"""What posts refer to: authors, categories and tags."""

from typing import Any

from rpc import errors
from services.posts.content.slugs import numbered, slugify
from services.posts.database import paging, rows
from services.posts.database.database import Database
from services.posts.models import Person, Tag

CREATE_AUTHOR = """
INSERT INTO authors (slug, name, created_by) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING RETURNING id, slug, name
"""

CREATE_CATEGORY = """
INSERT INTO categories (slug, name, created_by) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING
RETURNING id, slug, name
"""

LIST_AUTHORS = """
SELECT id, slug, name FROM authors WHERE $1::text IS NULL OR (name, id) > ($1, $2::uuid) ORDER BY name, id LIMIT $3
"""

LIST_CATEGORIES = """
SELECT id, slug, name FROM categories WHERE $1::text IS NULL OR (name, id) > ($1, $2::uuid) ORDER BY name, id LIMIT $3
"""

LIST_TAGS = """
SELECT g.name, count(*) AS post_count
FROM tags g JOIN post_tags pt ON pt.tag_id = g.id JOIN posts p ON p.id = pt.post_id
WHERE p.state = 'published'
GROUP BY g.name
HAVING $1::bigint IS NULL OR count(*) < $1 OR (count(*) = $1 AND g.name > $2)
ORDER BY count(*) DESC, g.name LIMIT $3
"""


class Shelves:
    """Authors, categories and tags. Every method raises Unavailable when the database cannot serve."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    async def create_author(self, principal: str, name: str, slug: str) -> Person:
        """Add an author; no slug: it is made from the name. Raises AlreadyExists (the slug is taken)."""
        return await self._create(CREATE_AUTHOR, principal, name, slug, "author")

    async def create_category(self, principal: str, name: str, slug: str) -> Person:
        """Add a category; no slug: it is made from the name. Raises AlreadyExists (the slug is taken)."""
        return await self._create(CREATE_CATEGORY, principal, name, slug, "category")

    async def authors(self, page_size: int, page_token: str) -> paging.Page[Person]:
        """Authors by name. Raises InvalidArgument for a bad token."""
        return await self._people(LIST_AUTHORS, "authors", page_size, page_token)

    async def categories(self, page_size: int, page_token: str) -> paging.Page[Person]:
        """Categories by name. Raises InvalidArgument for a bad token."""
        return await self._people(LIST_CATEGORIES, "categories", page_size, page_token)

    async def tags(self, page_size: int, page_token: str) -> paging.Page[Tag]:
        """Tags of published posts, the most used first. Raises InvalidArgument for a bad token."""
        at = paging.cursor(page_size, page_token, "tags", tie=str)
        found = await self._database.fetch(LIST_TAGS, at.sort, at.tie, at.size + 1)
        tags = [Tag(row["name"], row["post_count"]) for row in found]
        return paging.page(tags, at, lambda tag: (tag.post_count, tag.name))

    async def _create(self, statement: str, principal: str, name: str, slug: str, noun: str) -> Person:
        stem = slug or slugify(name, noun)
        row = await self._database.fetchrow(statement, stem, name, principal)
        if row is None:
            raise errors.AlreadyExists(
                f"the slug {stem!r} is taken; {numbered(stem, 2)!r} may be free",
                reason="SLUG_TAKEN",
                metadata={"slug": stem},
            )
        return rows.person(row)

    async def _people(self, statement: str, list_name: str, page_size: int, page_token: str) -> paging.Page[Person]:
        at = paging.cursor(page_size, page_token, list_name, sort=str)
        arguments: tuple[Any, ...] = (at.sort, at.id, at.size + 1)
        found = await self._database.fetch(statement, *arguments)
        return paging.page([rows.person(row) for row in found], at, lambda one: (one.name, str(one.id)))
