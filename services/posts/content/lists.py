"""The statement of a list of posts: it reads the index whose order is that of the list, and then the rows of one page.

Each combination of filters is a statement of its own, with an index of its own. A name that a filter gives is looked up
by a scalar subquery, so that the index is read from the right place; a name that does not exist ends the statement at
once. The list of any state merges the lists of the states.
"""

# ruff: noqa: S608  (the statements are made of constants; values have placeholders)

import uuid
from datetime import datetime

from services.posts.database.tag_identity import identity
from services.posts.database.where import Values
from services.posts.models import POST_STATES, UUID, PostFilter

_COLUMNS = """
p.id, p.slug, p.state, p.title, {content} AS content, p.featured_image, p.author_id, p.category_id, p.tags, p.task_id,
p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
p.author_slug, p.author_name, p.category_slug, p.category_name, p.author_is_default, p.category_is_default, p.excerpt,
''::text AS html
"""

_BY_SLUG_OR_ID = "(SELECT id FROM {table} WHERE slug = {slug} UNION ALL SELECT id FROM {table} WHERE id = {id} LIMIT 1)"

After = tuple[datetime, uuid.UUID] | None
"""sort_time and id of the last post of the page before."""


def statement(filters: PostFilter, limit: int, after: After, *, with_content: bool) -> tuple[str, list[object]]:
    """The statement of a list without words, and its values."""
    values = Values()
    place = values.add(limit)
    pages = [keys(filters, values, state, after, place) for state in states(filters)]
    text = " UNION ALL ".join(f"({page})" for page in pages)
    if len(pages) > 1:
        text = f"SELECT id, sort_time FROM ({text}) pages ORDER BY sort_time DESC, id DESC LIMIT {place}"
    return posts_of(text, with_content=with_content), values.all


def states(filters: PostFilter) -> list[str]:
    """The states of the posts of a list."""
    return [filters.state] if filters.state else list(POST_STATES)


def keys(
    filters: PostFilter, values: Values, state: str, after: After, limit: str, more: str = "", offset: int = 0
) -> str:
    """The statement of id and sort_time, and of `more` columns, of the first posts in one state, whatever their words.

    `limit` is SQL. `offset`: how many posts are left out.
    """
    table = _sort_table(filters)
    post_id = "pt.post_id" if filters.tag else "p.id"
    tables = "post_tags pt" if filters.tag else "posts p"
    if filters.tag and more:
        tables += " JOIN posts p ON p.id = pt.post_id"
    found = conditions(filters, values, table, f"{table}.sort_time", post_id, state, after)
    if filters.tag:
        found.append(f"pt.tag_id = {tag_id(filters, values)}")
    return (
        f"SELECT {post_id} AS id, {table}.sort_time{more} FROM {tables} WHERE {' AND '.join(found)}"
        f" ORDER BY {table}.sort_time DESC, {post_id} DESC LIMIT {limit} OFFSET {offset}"
    )


def conditions(
    filters: PostFilter, values: Values, table: str, sort: str, post_id: str, state: str, after: After
) -> list[str]:
    """What the filters ask of a row of `table`, the tag and the words aside."""
    found = [f"{table}.state = {values.add(state)}"]
    for column, names, given in (
        ("category_id", "categories", filters.category),
        ("author_id", "authors", filters.author),
    ):
        if given:
            slug, as_id = values.add(given), values.add(uuid.UUID(given) if UUID.fullmatch(given) else None)
            found.append(f"{table}.{column} = {_BY_SLUG_OR_ID.format(table=names, slug=slug, id=as_id)}")
    if after is not None:
        time, last = after
        found.append(f"({sort}, {post_id}) < ({values.add(time)}, {values.add(last)})")
    return found


def tag_id(filters: PostFilter, values: Values) -> str:
    """The subquery of the id of the tag."""
    return f"(SELECT id FROM tags WHERE identity = {values.add(identity(filters.tag))})"


def posts_of(found: str, *, with_content: bool) -> str:
    """The statement of the posts whose id and sort_time the statement `found` gives, newest first."""
    columns = _COLUMNS.format(content="p.content" if with_content else "''::text")
    return f"SELECT {columns} FROM ({found}) k JOIN full_posts p ON p.id = k.id ORDER BY k.sort_time DESC, k.id DESC"


def _sort_table(filters: PostFilter) -> str:
    return "pt" if filters.tag else "p"
