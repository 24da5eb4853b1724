"""Dispatching: which task goes to which generator, cancelling, stopping, and retaining images."""

import asyncio
from typing import Any

import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import GENERATOR, ScriptedGenerator, ScriptedStorage, serving

TIMEOUT = 20.0


async def within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, TIMEOUT)


async def test_unavailable_generator_costs_no_attempt(posts: Client, generator: ScriptedGenerator) -> None:
    generator.capabilities_error = errors.Unavailable("gone")
    task = await posts.create()
    while generator.capability_calls < 3:
        await asyncio.sleep(0.05)
    assert (await posts.get(task.id)).state == t.TASK_STATE_QUEUED
    generator.capabilities_error = None
    assert (await posts.finished(task.id)).attempt_count == 1


async def test_unavailable_storage_costs_no_attempt(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.status_error = errors.Unavailable("gone")
    task = await posts.create()
    while storage.status_calls < 3:
        await asyncio.sleep(0.05)
    assert not generator.requests
    storage.status_error = None
    assert (await posts.finished(task.id)).attempt_count == 1


@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_claims_are_limited_to_slots_and_dispatch_ahead(
    start_posts: StartPosts, generator: ScriptedGenerator, ahead: int
) -> None:
    generator.slot_count = 2
    generator.gate = asyncio.Event()
    async with start_posts(dispatch_ahead=ahead) as posts:
        ids = [(await posts.create()).id for _ in range(10)]
        while generator.in_progress < 2 + ahead:
            await asyncio.sleep(0.005)
        generator.gate.set()
        await asyncio.gather(*(posts.finished(task_id) for task_id in ids))
    assert generator.most_in_progress == 2 + ahead


async def test_no_request_waits_while_another_generator_is_idle(
    start_posts: StartPosts, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    """Whichever of them is asked first: one slot each, and two tasks."""
    second = ScriptedGenerator(slot_count=1)
    generator.slot_count = 1
    async with serving(second, GENERATOR) as handle:
        target: str = generator.target  # type: ignore[attr-defined]
        async with start_posts(generator_targets=(target, handle.address), dispatch_ahead=5) as posts:
            for _ in range(10):
                second.gate = generator.gate = asyncio.Event()
                first = await posts.create()
                while generator.in_progress + second.in_progress < 1:
                    await asyncio.sleep(0.005)
                other = await posts.create()
                while generator.in_progress + second.in_progress < 2:
                    await asyncio.sleep(0.005)
                assert (generator.in_progress, second.in_progress) == (1, 1)
                generator.gate.set()
                await asyncio.gather(posts.finished(first.id), posts.finished(other.id))


async def test_two_generators_share_the_work(
    start_posts: StartPosts, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    second = ScriptedGenerator(step_seconds=0.02)
    generator.step_seconds = 0.02
    async with serving(second, GENERATOR) as handle:
        target: str = generator.target  # type: ignore[attr-defined]
        async with start_posts(generator_targets=(target, handle.address)) as posts:
            ids = [(await posts.create()).id for _ in range(12)]
            await asyncio.gather(*(posts.finished(task_id) for task_id in ids))
    assert len(generator.requests) + len(second.requests) == 12
    assert min(len(generator.requests), len(second.requests)) > 0


async def test_cancel_stops_the_generator_at_once(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
    """By notification: the next heartbeat is minutes away."""
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=600.0) as posts:
        task = await posts.create()
        await within(generator.at_gate.wait())
        cancelled = (await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))).task
        assert cancelled.state == t.TASK_STATE_CANCELLED
        await within(generator.cancelled.wait())
        events = await posts.events(task.id)
        assert events[-1].state_change.state == t.TASK_STATE_CANCELLED
        generator.gate.set()
        retried = (await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))).task
        assert retried.state == t.TASK_STATE_QUEUED
        assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL


async def test_cancel_through_another_process_stops_the_generator(
    start_posts: StartPosts, generator: ScriptedGenerator
) -> None:
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=600.0), start_posts(worker=False) as other:
        task = await other.create()
        await within(generator.at_gate.wait())
        await other.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await within(generator.cancelled.wait())


@pytest.mark.usefixtures("own_database")
async def test_heartbeat_finds_the_cancel_without_notification(
    start_posts: StartPosts, generator: ScriptedGenerator, sql: Any
) -> None:
    await sql.execute("ALTER TABLE task_events DISABLE TRIGGER task_events_notify")
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=3.0) as posts:
        task = await posts.create()
        await within(generator.at_gate.wait())
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await within(generator.cancelled.wait())


async def test_stopping_worker_releases_its_tasks(
    start_posts: StartPosts, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=600.0) as posts:
        task = await posts.create()
        await within(generator.at_gate.wait())
        await posts.worker.dispatcher.stop()
        row = await sql.fetchrow("SELECT * FROM content_tasks")
        assert (row["state"], row["attempt_count"], row["lease_token"]) == ("queued", 0, None)
    generator.gate.set()
    async with start_posts(lease_seconds=600.0) as posts:
        done = await within(posts.finished(task.id))
        assert (done.state, done.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)


async def test_image_of_post_is_retained_after_storage_was_unavailable(
    posts: Client, storage: ScriptedStorage, sql: Any
) -> None:
    storage.keep_error = errors.Unavailable("away")
    task = await posts.done()
    post = (await posts.approve(task.id, publish=False)).post
    while storage.keep_error is not None:
        await asyncio.sleep(0.05)
    assert await sql.fetchval("SELECT image_keep_at IS NOT NULL FROM posts")
    await sql.execute("UPDATE posts SET image_keep_at = now()")  # half a minute later
    await within(storage.kept.wait())
    assert storage.images[post.featured_image.image.key].state == images_pb2.IMAGE_STATE_PUBLISHED
    while await sql.fetchval("SELECT image_keep_at FROM posts") is not None:
        await asyncio.sleep(0.05)
