"""What PostgreSQL reads for a list: EXPLAIN (ANALYZE, BUFFERS) of each statement that services.posts runs for it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p

from rpc.image_urls import ImageUrls
from services.posts.content.addresses import Addresses
from services.posts.content.repository import Posts
from services.posts.content.texts.deriving import Deriving
from services.posts.models import POST_STATES, PostFilter


class Explained:
    """A connection in the place of a Database, which counts what its statements read."""

    def __init__(self, connection: Any) -> None:
        """Nothing is read yet."""
        self._connection = connection
        self.rows = self.pages = 0

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """All rows of a statement."""
        text = await self._connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *arguments)
        plan = json.loads(text)[0]["Plan"]
        self.rows += sum(map(_read, _nodes(plan)))
        self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        found: list[Any] = await self._connection.fetch(sql, *arguments)
        return found

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        """The first row of a statement. The statistics of words are kept for a minute, so they do not count."""
        if "pg_stats" in sql:
            return await self._connection.fetchrow(sql, *arguments)
        return next(iter(await self.fetch(sql, *arguments)), None)


async def rows_read(connection: Any, filters: Mapping[str, Any]) -> tuple[int, int]:
    """The rows that the scans of a list read, those that they dropped included, and the pages of 8 KiB in all.

    Statements are planned without their values, as those that are used often.
    """
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    state = filters.get("state", p.POST_STATE_PUBLISHED)
    chosen = PostFilter(
        state=next((name for name, value in POST_STATES.items() if value == state), None),
        **{name: filters.get(name, "") for name in ("tag", "category", "author", "query")},
    )
    explained: Any = Explained(connection)
    await Posts(explained, Deriving(()), Addresses(ImageUrls(""), "")).list(chosen, 20, "", with_content=False)
    return explained.rows, explained.pages


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _read(node: dict[str, Any]) -> int:
    if "Scan" not in node["Node Type"] or node["Node Type"] == "Subquery Scan":
        return 0
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + dropped) * node["Actual Loops"])
