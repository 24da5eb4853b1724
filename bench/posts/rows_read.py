"""What PostgreSQL reads for a list: EXPLAIN (ANALYZE, BUFFERS) of the statements of services.posts."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p

from services.posts.content import lists
from services.posts.models import POST_STATES, PostFilter


async def rows_read(connection: Any, filters: Mapping[str, Any]) -> tuple[int, int]:
    """The rows that the scans of a list read, those that they dropped included, and the pages of 8 KiB in all.

    Lists without words are planned without their values, as a prepared statement is that was used often.
    """
    words = filters.get("query", "")
    await connection.execute(f"SET plan_cache_mode = {'force_custom_plan' if words else 'force_generic_plan'}")
    state = filters.get("state", p.POST_STATE_PUBLISHED)
    chosen = PostFilter(
        state=next((name for name, value in POST_STATES.items() if value == state), None),
        tag=filters.get("tag", ""),
        category=filters.get("category", ""),
        author=filters.get("author", ""),
        query=words,
    )
    text, values = lists.statement(chosen, 21, None, with_content=False)
    plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", *values))[0]["Plan"]
    rows = sum(_read(node) for node in _nodes(plan) if "Scan" in node["Node Type"] and node["Node Type"] != "Subquery Scan")
    return rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _read(node: dict[str, Any]) -> int:
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return round((node["Actual Rows"] + dropped) * node["Actual Loops"])
