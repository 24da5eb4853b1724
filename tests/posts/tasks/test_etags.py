"""A caller that sends the etag it has read changes nothing that another caller has changed since."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from tests.posts.conftest import Client, reason
from tests.posts.tasks.decisions import outcome, ready_tasks


async def test_each_stored_event_changes_the_etag(idle: Client) -> None:
    created = await idle.create()
    cancelled = (await idle.tasks.CancelTask(t.CancelTaskRequest(task_id=created.id, etag=created.etag))).task
    assert cancelled.etag != created.etag
    assert (await idle.get(created.id)).etag == cancelled.etag


async def test_an_old_etag_is_refused_and_nothing_changes(posts: Client, sql: Any) -> None:
    first, second, third = await ready_tasks(posts, sql, 3)
    await sql.execute("UPDATE content_tasks SET state = 'failed' WHERE id = $1", uuid.UUID(third))
    calls = {
        first: posts.approve(first, etag='"1"'),
        second: posts.tasks.RejectTask(t.RejectTaskRequest(task_id=second, etag='"1"')),
        third: posts.tasks.RetryTask(t.RetryTaskRequest(task_id=third, etag="nonsense")),
    }
    for task_id, call in calls.items():
        before = await posts.get(task_id)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert (raised.value.code(), reason(raised.value)) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert await posts.get(task_id) == before
    assert await sql.fetchval("SELECT count(*) FROM posts") == 0


async def test_of_several_editors_with_one_etag_one_wins(posts: Client) -> None:
    task = await posts.done()
    calls = [posts.approve(task.id, f"By {i}", etag=task.etag) for i in range(8)]
    outcomes = await asyncio.gather(*map(outcome, calls))
    assert sorted(outcomes) == ["ETAG_MISMATCH"] * 7 + ["OK"]


async def test_a_repeated_call_succeeds_with_the_etag_of_its_first_time(posts: Client) -> None:
    task = await posts.done()
    first, again = [await posts.approve(task.id, etag=task.etag, request_id="mine") for _ in range(2)]
    assert first == again


async def test_a_task_that_does_not_exist_is_not_found(posts: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=str(uuid.uuid4()), etag='"1"'))
    assert reason(raised.value) == "TASK_NOT_FOUND"
