"""Texts whose HTML, excerpt and lexemes an earlier version of the program has made, or that are still to be made."""

import logging
from typing import Any

from services.posts.content.search import words
from services.posts.content.texts import deriving, rendering
from services.posts.content.texts.deriving import Derived, Deriving
from services.posts.database.database import Database
from services.posts.database.sql import Sql

log = logging.getLogger(__name__)

BATCH = 20
_WAIT_SECONDS = 60.0

FIND = """
SELECT id, title, content, version FROM posts WHERE derived_version < $1 ORDER BY derived_version, id LIMIT $2
"""

STORE = Sql("""
UPDATE posts SET html = :html, excerpt = :excerpt, search = array_to_tsvector(:lexemes::text[]),
    derived_version = :derived_version
WHERE id = :id AND version = :version AND derived_version < :derived_version
""")


async def derive_again(database: Database, texts: Deriving, row: Any, wait_seconds: float) -> Derived | None:
    """Derive from the title and content of a row, and store that unless the post was changed. None: took too long."""
    derived = await texts.try_derive(row["title"], row["content"], wait_seconds)
    if derived is not None:
        await _store(database, row, derived)
    return derived


async def catch_up(database: Database, texts: Deriving) -> None:
    """Derive again what posts need. Several workers may do the same post: no harm."""
    while found := await database.fetch(FIND, deriving.VERSION, BATCH):
        for row in found:
            if await derive_again(database, texts, row, _WAIT_SECONDS) is None:
                log.warning("a text cannot be rendered", extra={"post_id": str(row["id"])})
                html, excerpt = rendering.plain(row["content"])
                await _store(database, row, Derived(html, excerpt, words.lexemes(row["title"], "")))


async def _store(database: Database, row: Any, derived: Derived) -> None:
    statement = STORE(
        id=row["id"],
        version=row["version"],
        html=derived.html,
        excerpt=derived.excerpt,
        lexemes=derived.lexemes,
        derived_version=derived.version,
    )
    await database.execute(*statement)
