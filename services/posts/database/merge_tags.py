"""Joins the tags that are one tag: a step of migration 2, because PostgreSQL has no case folding for every locale."""

from collections import defaultdict
from typing import Any
from uuid import UUID

import asyncpg

from services.posts.database.tag_identity import identity

# The most used spelling first: tags have no age.
TAGS = """
SELECT g.id, g.name FROM tags g LEFT JOIN post_tags pt ON pt.tag_id = g.id
GROUP BY g.id ORDER BY count(pt.post_id) DESC, g.name COLLATE "C"
"""
SET_IDENTITY = "UPDATE tags SET identity = $2 WHERE id = $1"
# A post that has several spellings keeps the place of the first.
DROP_SECOND = """
DELETE FROM post_tags pt USING post_tags other
WHERE pt.tag_id = ANY ($1::uuid[]) AND other.tag_id = ANY ($1::uuid[]) AND other.post_id = pt.post_id
    AND other.position < pt.position
"""
JOIN = "UPDATE post_tags SET tag_id = $1 WHERE tag_id = ANY ($2::uuid[])"
DELETE = "DELETE FROM tags WHERE id = ANY ($1::uuid[])"
# The trigger would copy the names, which stay, to all posts.
TRIGGER_OFF = "ALTER TABLE tags DISABLE TRIGGER tags_updated"
CONSTRAIN = """
ALTER TABLE tags ENABLE TRIGGER tags_updated,
    ALTER COLUMN identity SET NOT NULL, ADD CONSTRAINT tags_identity_key UNIQUE (identity)
"""


async def merge_tags(connection: "asyncpg.Connection[Any]") -> None:
    """Give every tag its identity; of several with the same one keep the most used."""
    await connection.execute(TRIGGER_OFF)
    spellings: dict[str, list[UUID]] = defaultdict(list)
    for row in await connection.fetch(TAGS):
        spellings[identity(row["name"])].append(row["id"])
    for kept, *others in spellings.values():
        if others:
            await connection.execute(DROP_SECOND, [kept, *others])
            await connection.execute(JOIN, kept, others)
            await connection.execute(DELETE, others)
    await connection.executemany(SET_IDENTITY, [(found[0], name) for name, found in spellings.items()])
    await connection.execute(CONSTRAIN)
