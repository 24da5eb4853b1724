"""Tasks to decide, and what became of a call."""

import uuid
from typing import Any

import grpc

from tests.posts.conftest import Client, reason


async def ready_tasks(posts: Client, sql: Any, count: int) -> list[str]:
    """Tasks that await approval: one made by the service, the others its copies."""
    first = uuid.UUID((await posts.done()).id)
    ids = [uuid.uuid4() for _ in range(count)]
    columns = [
        row["column_name"]
        for row in await sql.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = 'content_tasks' AND column_name <> 'id'"
        )
    ]
    names = ", ".join(columns)
    async with sql.transaction():
        await sql.execute(
            f"INSERT INTO content_tasks (id, {names}) SELECT n, {names} FROM content_tasks, unnest($2::uuid[]) n"
            " WHERE id = $1",
            first,
            ids,
        )
        await sql.execute(
            "INSERT INTO task_events (task_id, sequence, kind, attempt, actor, state, image_index)"
            " SELECT n, sequence, kind, attempt, actor, state, image_index"
            " FROM task_events, unnest($2::uuid[]) n WHERE task_id = $1",
            first,
            ids,
        )
        image = [
            row["column_name"]
            for row in await sql.fetch(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = 'task_images' AND column_name NOT IN ('task_id', 'key', 'image_source')"
            )
        ]
        names = ", ".join(image)
        await sql.execute(
            f"INSERT INTO task_images (task_id, {names}) SELECT n, {names} FROM task_images, unnest($2::uuid[]) n"
            " WHERE task_id = $1",
            first,
            ids,
        )
    return [str(one) for one in ids]


async def outcome(call: Any) -> str:
    """OK, or the reason of the error."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error) if error.code() is grpc.StatusCode.ABORTED else str(error)
    return "OK"
