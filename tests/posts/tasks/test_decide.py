"""Approve and reject: exactly one editor decides, and the post is complete."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t

from tests.posts.conftest import Client, reason
from tests.posts.tasks.decisions import outcome, ready_tasks

PAIRS = 100


async def test_one_of_two_concurrent_approvals_wins(posts: Client, sql: Any) -> None:
    for task_id in await ready_tasks(posts, sql, PAIRS):
        outcomes = await asyncio.gather(*(outcome(posts.approve(task_id)) for _ in range(2)))
        assert sorted(outcomes) == ["ALREADY_DECIDED", "OK"]
    assert await sql.fetchval("SELECT count(*) FROM posts") == PAIRS


async def test_approval_or_rejection_wins(posts: Client, sql: Any) -> None:
    ids = await ready_tasks(posts, sql, PAIRS)

    async def race(task_id: str, approve_first: bool) -> str:
        calls = [
            outcome(posts.approve(task_id)),
            outcome(posts.tasks.RejectTask(t.RejectTaskRequest(task_id=task_id, comment="no"), timeout=10)),
        ]
        results = await asyncio.gather(*(calls if approve_first else reversed(calls)))
        assert sorted(results) == ["ALREADY_DECIDED", "OK"]
        return "approved" if (results[0] == "OK") == approve_first else "rejected"

    winners = [await race(task_id, number % 2 == 0) for number, task_id in enumerate(ids)]
    states = {
        str(row["id"]): row["state"]
        for row in await sql.fetch("SELECT id, state FROM content_tasks WHERE state <> 'awaiting_approval'")
    }
    assert states == dict(zip(ids, winners, strict=True))
    assert await sql.fetchval("SELECT count(*) FROM posts") == winners.count("approved")
    for task_id in ids:
        sequences = [
            row["sequence"]
            for row in await sql.fetch("SELECT sequence FROM task_events WHERE task_id = $1 ORDER BY 1", task_id)
        ]
        assert sequences == [1, 2, 3, 4, 5]


class TestRepeated:
    """A call whose response was lost is sent again with its request_id."""

    async def test_repeated_approval_makes_one_post(self, posts: Client, sql: Any) -> None:
        task = await posts.done(candidate_count=2)
        fields = {"request_id": "mine", "image_index": 1, "tags": ["a", "b"]}
        answers = await asyncio.gather(*(posts.approve(task.id, **fields) for _ in range(20)))
        assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
        assert await sql.fetchval("SELECT count(*) FROM posts") == 1
        request = p.UpdatePostRequest(id=answers[0].post.id, title="Changed", update_mask={"paths": ["title"]})
        await posts.posts.UpdatePost(request)
        again = await posts.approve(task.id, **fields)
        assert (again.post.id, again.post.title, again.task.post_id) == (answers[0].post.id, "Changed", again.post.id)

    async def test_repeated_rejection_returns_the_task(self, posts: Client) -> None:
        task = await posts.done()
        request = t.RejectTaskRequest(task_id=task.id, comment="no", request_id="mine")
        first, second = [(await posts.tasks.RejectTask(request)).task for _ in range(2)]
        assert first == second
        assert first.state == t.TASK_STATE_REJECTED

    async def test_repeated_retry_queues_once(self, idle: Client) -> None:
        task = await idle.create()
        cancel = t.CancelTaskRequest(task_id=task.id)
        first, second = [(await idle.tasks.CancelTask(cancel)).task for _ in range(2)]
        assert first == second  # needs no request_id
        request = t.RetryTaskRequest(task_id=task.id, request_id="mine")
        retried, again = [(await idle.tasks.RetryTask(request)).task for _ in range(2)]
        assert retried == again
        assert retried.state == t.TASK_STATE_QUEUED
        await idle.tasks.CancelTask(cancel)
        assert (await idle.tasks.RetryTask(request)).task.state == t.TASK_STATE_CANCELLED
        request.request_id = "another"
        assert (await idle.tasks.RetryTask(request)).task.state == t.TASK_STATE_QUEUED

    async def test_repeat_without_request_id_is_refused(self, posts: Client, sql: Any) -> None:
        approved, rejected, failed = await ready_tasks(posts, sql, 3)
        await posts.approve(approved)
        await posts.tasks.RejectTask(t.RejectTaskRequest(task_id=rejected))
        await sql.execute("UPDATE content_tasks SET state = 'failed' WHERE id = $1", uuid.UUID(failed))
        await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=failed))
        for call, why in (
            (posts.approve(approved), "ALREADY_DECIDED"),
            (posts.approve(approved, request_id="mine"), "ALREADY_DECIDED"),
            (posts.tasks.RejectTask(t.RejectTaskRequest(task_id=rejected)), "ALREADY_DECIDED"),
            (posts.tasks.RetryTask(t.RetryTaskRequest(task_id=approved)), "WRONG_TASK_STATE"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert reason(raised.value) == why

    async def test_another_request_with_the_same_key_is_refused(self, posts: Client, sql: Any) -> None:
        first, second = await ready_tasks(posts, sql, 2)
        await posts.approve(first, request_id="mine")
        await posts.tasks.RejectTask(t.RejectTaskRequest(task_id=second, comment="no", request_id="mine"))
        for call in (
            posts.approve(first, "Another title", request_id="mine"),
            posts.approve(second, request_id="mine"),
            posts.tasks.RejectTask(t.RejectTaskRequest(task_id=second, comment="No", request_id="mine")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
            assert reason(raised.value) == "IDEMPOTENCY_MISMATCH"

    async def test_refused_call_leaves_its_request_id_unused(self, posts: Client) -> None:
        task = await posts.done()
        with pytest.raises(grpc.aio.AioRpcError):
            await posts.approve(task.id, request_id="mine", author_id=str(uuid.uuid4()))
        assert (await posts.approve(task.id, request_id="mine")).post.id

    async def test_repeat_after_the_post_was_deleted(self, posts: Client) -> None:
        task = await posts.done()
        post = (await posts.approve(task.id, request_id="mine")).post
        await posts.posts.DeletePost(p.DeletePostRequest(id=post.id))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await posts.approve(task.id, request_id="mine")
        assert reason(raised.value) == "POST_DELETED"


async def test_concurrent_approvals_with_one_title_get_different_slugs(posts: Client, sql: Any) -> None:
    ids = await ready_tasks(posts, sql, 20)
    answers = await asyncio.gather(*(posts.approve(task_id, "Same title") for task_id in ids))
    assert len({answer.post.slug for answer in answers}) == 20
    assert "same-title" in {answer.post.slug for answer in answers}


async def test_slugs_are_numbered(posts: Client, sql: Any) -> None:
    ids = await ready_tasks(posts, sql, 3)
    slugs = [(await posts.approve(task_id, "Über Größe & Öl")).post.slug for task_id in ids]
    assert slugs == ["uber-grosse-ol", "uber-grosse-ol-2", "uber-grosse-ol-3"]


async def test_editor_chooses_among_candidates(posts: Client) -> None:
    task = await posts.done(candidate_count=3, seed=10)
    assert not task.HasField("approved_image_index")
    answer = await posts.approve(task.id, image_index=2, publish=False, alt_text="words")
    assert answer.task.HasField("approved_image_index")
    assert (answer.task.approved_image_index, await posts.get(task.id)) == (2, answer.task)
    assert answer.post.featured_image.image == task.images[2].image
    assert answer.post.featured_image.alt_text == "words"
    assert answer.post.state == p.POST_STATE_DRAFT
    assert not answer.post.HasField("publish_time")
    assert [image.generation.parameters.seed for image in task.images] == [10, 11, 12]


async def test_refused_approval_changes_nothing(posts: Client, sql: Any) -> None:
    task = await posts.done()
    stranger = str(uuid.uuid4())
    for fields, code in (
        ({"image_index": 1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"image_index": 2**32 - 1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"author_id": stranger}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"category_id": stranger}, grpc.StatusCode.FAILED_PRECONDITION),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await posts.approve(task.id, **fields)
        assert raised.value.code() is code
    assert (await posts.get(task.id)) == task
    assert await sql.fetchval("SELECT count(*) FROM posts") == 0
    assert (await posts.approve(task.id)).post.id


async def test_taken_slug_leaves_the_task_undecided(posts: Client, sql: Any) -> None:
    first, second = await ready_tasks(posts, sql, 2)
    await posts.approve(first, slug="taken")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await posts.approve(second, slug="taken")
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert (await posts.get(second)).state == t.TASK_STATE_AWAITING_APPROVAL


async def test_queued_task_cannot_be_decided(idle: Client) -> None:
    task = await idle.create()
    for call in (idle.approve(task.id), idle.tasks.RejectTask(t.RejectTaskRequest(task_id=task.id))):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_rejection_keeps_the_comment(posts: Client) -> None:
    task = await posts.done()
    await posts.tasks.RejectTask(
        t.RejectTaskRequest(task_id=task.id, comment="too\nblue"), metadata=[("x-principal", "bo")]
    )
    (event,) = await posts.events(task.id, after=task.last_sequence)
    assert event.terminal
    assert (event.state_change.comment, event.state_change.actor) == ("too\nblue", "bo")
    assert event.state_change.state == t.TASK_STATE_REJECTED


async def test_task_that_awaits_approval_cannot_be_cancelled_or_retried(posts: Client) -> None:
    task = await posts.done()
    for call in (
        posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id)),
        posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_task_stays_approved_when_its_post_is_deleted(posts: Client) -> None:
    task = await posts.done()
    post = (await posts.approve(task.id)).post
    await posts.posts.DeletePost(p.DeletePostRequest(id=post.id))
    task = await posts.get(task.id)
    assert (task.state, task.post_id) == (t.TASK_STATE_APPROVED, post.id)
