"""The statement of a list of posts: it reads the index whose order is that of the list, and then the rows of one page.

Each combination of filters is a statement of its own, with an index of its own. A name that a filter gives is looked up
by a scalar subquery, so that the index is read from the right place; a name that does not exist ends the statement at
once. The list of any state merges the lists of the states.
"""

# ruff: noqa: S608  (the statements are made of constants; values have placeholders)

import re
import uuid
from datetime import datetime

from services.posts.content import search
from services.posts.database.tag_identity import identity
from services.posts.database.where import Values
from services.posts.models import POST_STATES, PostFilter

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_COLUMNS = """
p.id, p.slug, p.state, p.title, {content} AS content, p.featured_image, p.author_id, p.category_id, p.tags, p.task_id,
p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
p.author_slug, p.author_name, p.category_slug, p.category_name, p.author_is_default, p.category_is_default, p.excerpt,
''::text AS html
"""

_BY_SLUG_OR_ID = "(SELECT id FROM {table} WHERE slug = {slug} UNION ALL SELECT id FROM {table} WHERE id = {id} LIMIT 1)"


def statement(
    filters: PostFilter, limit: int, after: tuple[datetime, uuid.UUID] | None, *, with_content: bool
) -> tuple[str, list[object]]:
    """The statement and its values. `after`: sort_time and id of the last post of the page before."""
    values = Values()
    conditions = _conditions(filters, values, after)
    place = values.add(limit)
    states = [filters.state] if filters.state else list(POST_STATES)
    pages = [
        f"(SELECT {_key(filters)}, {_sort(filters)} FROM {_tables(filters)}"
        f" WHERE {_sort_table(filters)}.state = {values.add(state)} {conditions}"
        f" ORDER BY {_sort(filters)} DESC, {_id(filters)} DESC LIMIT {place})"
        for state in states
    ]
    keys = " UNION ALL ".join(pages)
    if len(pages) > 1:
        keys = f"SELECT id, sort_time FROM ({keys}) pages ORDER BY sort_time DESC, id DESC LIMIT {place}"
    columns = _COLUMNS.format(content="p.content" if with_content else "''::text")
    text = f"SELECT {columns} FROM ({keys}) k JOIN full_posts p ON p.id = k.id ORDER BY k.sort_time DESC, k.id DESC"
    return text, values.all


def _conditions(filters: PostFilter, values: Values, after: tuple[datetime, uuid.UUID] | None) -> str:
    table, conditions = _sort_table(filters), [""]
    if filters.tag:
        conditions.append(f"pt.tag_id = (SELECT id FROM tags WHERE identity = {values.add(identity(filters.tag))})")
    for column, found, given in (
        ("category_id", "categories", filters.category),
        ("author_id", "authors", filters.author),
    ):
        if given:
            slug, as_id = values.add(given), values.add(uuid.UUID(given) if _UUID.fullmatch(given) else None)
            conditions.append(f"{table}.{column} = {_BY_SLUG_OR_ID.format(table=found, slug=slug, id=as_id)}")
    if (words := search.query(filters.query)) is not None:
        conditions.append(f"p.search @@ {values.add(words)}::text::tsquery")
    if after is not None:
        time, post_id = after
        conditions.append(f"({_sort(filters)}, {_id(filters)}) < ({values.add(time)}, {values.add(post_id)})")
    return " AND ".join(conditions)


def _tables(filters: PostFilter) -> str:
    if not filters.tag:
        return "posts p"
    return "post_tags pt JOIN posts p ON p.id = pt.post_id" if filters.query.strip() else "post_tags pt"


def _sort_table(filters: PostFilter) -> str:
    return "pt" if filters.tag else "p"


def _sort(filters: PostFilter) -> str:
    return f"{_sort_table(filters)}.sort_time"


def _id(filters: PostFilter) -> str:
    return "pt.post_id" if filters.tag else "p.id"


def _key(filters: PostFilter) -> str:
    return f"{_id(filters)} AS id"
