"""Tags of a post. Names that differ in case, width or spaces are one tag, and the spelling that came first is shown."""

import uuid
from collections.abc import Iterable

from services.posts.database.database import Connection
from services.posts.database.tag_identity import identity

# In the order of identities, so that two posts with the same new tags cannot deadlock.
ADD_TAGS = """
INSERT INTO tags (name, identity) SELECT n.name, n.identity FROM unnest($1::text[], $2::text[]) n (name, identity)
ORDER BY n.identity ON CONFLICT DO NOTHING
"""

TAG_POST = """
INSERT INTO post_tags (post_id, tag_id, position)
SELECT $1, g.id, n.position - 1
FROM unnest($2::text[]) WITH ORDINALITY n (identity, position) JOIN tags g USING (identity)
"""


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Each tag once, in the order given and in its first spelling."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(identity(name), name)
    return tuple(found.values())


async def set_tags(connection: Connection, post_id: uuid.UUID, names: tuple[str, ...]) -> None:
    """Add tags to a post that has none. `names` are distinct."""
    if names:
        identities = [identity(name) for name in names]
        await connection.execute(ADD_TAGS, list(names), identities)
        await connection.execute(TAG_POST, post_id, identities)
