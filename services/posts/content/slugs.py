"""Names in URLs, made from titles in any language."""

import re
import uuid

from anyascii import anyascii
from frontispiece.posts.v1 import posts_pb2

from rpc.limits import limits
from services.posts.database.database import Connection
from services.posts.models import UUID

ATTEMPTS = 8
"""How many candidates are tried."""

_NUMBERED = 5
_ENDING_LENGTH = 10  # a hyphen and nine digits

NEXT_NUMBER = """
SELECT coalesce(max(substring(slug FROM length($1) + 2)::bigint), 1) + 1 FROM {table}
WHERE slug LIKE $1 || '-%' AND substring(slug FROM length($1) + 2) ~ '^[0-9]{{1,9}}$'
"""

_LENGTH = limits(posts_pb2.CreatePostRequest, "slug").max_length


def slugify(title: str, fallback: str) -> str:
    """`title` in Latin letters a-z, digits and single hyphens, cut to the limit; `fallback` if nothing is left.

    A title that would look like an id gets the fallback before it.
    """
    latin = anyascii(title).lower().replace("'", "")
    slug = "-".join(re.findall(r"[a-z0-9]+", latin))
    if looks_like_an_id(slug):
        slug = f"{fallback}-{slug}"
    if len(slug) > _LENGTH:
        cut = slug[:_LENGTH]
        slug = cut if slug[_LENGTH] == "-" else cut.rpartition("-")[0] or cut
    return slug or fallback


def looks_like_an_id(slug: str) -> bool:
    """Whether `slug` has the form of a UUID. It would hide, or be hidden by, what has that id."""
    return UUID.fullmatch(slug) is not None


async def candidate(connection: Connection, table: str, stem: str, attempt: int) -> str:
    """The slug to try for `stem` at an attempt, from 0: the stem, the next free number after it, a random ending.

    `table` has the column `slug`; it may be a subquery. Several calls may compute the same number at the same moment,
    so the attempts after NUMBERED do not count. A cut stem fits into the limit with its ending.
    """
    if attempt == 0:
        return stem
    shorter = stem[: _LENGTH - _ENDING_LENGTH].rstrip("-")
    if attempt <= _NUMBERED:
        return f"{shorter}-{await connection.fetchval(NEXT_NUMBER.format(table=table), shorter)}"
    return f"{shorter}-{uuid.uuid4().hex[:8]}"
