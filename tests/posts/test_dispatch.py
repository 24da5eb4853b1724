"""Attempts: what a generator and a storage may do wrong, and what becomes of the task."""

import asyncio
import hashlib
from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errors.Unavailable("away"), "GENERATOR_UNAVAILABLE"),
        ((errors.Unavailable("away in the middle"),), "GENERATOR_UNAVAILABLE"),
        ((errors.Internal("not finite", reason="IMAGE_INVALID"),), "IMAGE_INVALID"),
        (errors.DeadlineExceeded("slow"), "GENERATOR_DEADLINE_EXCEEDED"),
        ((RuntimeError("secret: hunter2"),), "GENERATOR_INTERNAL"),
    ],
)
async def test_a_passing_fault_is_one_attempt(
    posts: Client, generator: ScriptedGenerator, fault: Any, reason: str
) -> None:
    generator.script = [fault]
    events = await posts.events((await posts.create(seed=5)).id)
    changes = [event.state_change for event in events if event.WhichOneof("kind") == "state_change"]
    assert [change.state for change in changes] == [1, 2, 1, 2, 3]
    assert changes[2].error.reason == reason
    assert changes[2].error.will_retry
    assert "hunter2" not in changes[2].error.message
    assert {request.seed for request in generator.requests} == {5}
    task = await posts.get(events[0].task_id)
    assert task.attempt_count == 2
    assert not task.HasField("error")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errors.InvalidArgument.field("scheduler", "unknown"), "INVALID_ARGUMENT"),
        (errors.FailedPrecondition("no key", reason="STOCK_NOT_CONFIGURED"), "STOCK_NOT_CONFIGURED"),
        (errors.NotFound("no photo"), "NOT_FOUND"),
    ],
)
async def test_a_lasting_fault_fails_at_once(
    posts: Client, generator: ScriptedGenerator, fault: Any, reason: str
) -> None:
    generator.script = [fault]
    task = await posts.finished((await posts.create()).id)
    assert task.state == t.TASK_STATE_FAILED
    assert (task.error.reason, task.error.will_retry, task.attempt_count) == (reason, False, 1)
    retried = (await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))).task
    assert not retried.HasField("error")
    assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL


async def test_attempts_run_out(posts: Client, generator: ScriptedGenerator) -> None:
    generator.script = [errors.Unavailable("away")] * 3
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count, task.error.will_retry) == (t.TASK_STATE_FAILED, 3, False)
    assert len(generator.requests) == 3


async def test_a_full_generator_burns_no_attempt(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
    generator.script = [errors.ResourceExhausted("full", retry_after_seconds=0.05)] * 2
    async with start_posts(max_attempts=1) as posts:
        task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)


async def test_a_request_that_a_generator_never_takes_is_not_sent_for_ever(
    posts: Client, generator: ScriptedGenerator
) -> None:
    """gRPC answers so to a message that is too large; the generator's full queue says when to come back."""
    generator.script = [errors.ResourceExhausted("Received message larger than max")] * 3
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count) == (t.TASK_STATE_FAILED, 3)
    assert task.error.reason == "GENERATOR_RESOURCE_EXHAUSTED"


async def test_a_generator_that_is_gone_burns_no_attempt(posts: Client, generator: ScriptedGenerator) -> None:
    generator.capabilities_error = errors.Unavailable("gone")
    task = await posts.create()
    while generator.capability_calls < 3:
        await asyncio.sleep(0.05)
    assert (await posts.get(task.id)).state == t.TASK_STATE_QUEUED
    generator.capabilities_error = None
    assert (await posts.finished(task.id)).attempt_count == 1


async def test_a_storage_that_is_gone_burns_no_attempt(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.status_error = errors.Unavailable("gone")
    task = await posts.create()
    while storage.status_calls < 3:
        await asyncio.sleep(0.05)
    assert not generator.requests
    storage.status_error = None
    assert (await posts.finished(task.id)).attempt_count == 1


async def test_a_silent_generator_is_given_up_though_the_lease_lives(
    start_posts: StartPosts, generator: ScriptedGenerator
) -> None:
    generator.script = ["hang"]
    async with start_posts(step_timeout_seconds=0.3) as posts:
        events = await within(posts.events((await posts.create()).id))
        await within(generator.cancelled.wait())
    errors_told = [event.state_change.error.reason for event in events if event.state_change.HasField("error")]
    assert errors_told == ["GENERATOR_STALLED"]
    assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL


def with_(**changes: Any) -> Callable[[Any, bytes], tuple[Any, bytes]]:
    """An answer whose description was changed."""

    def fault(metadata: Any, data: bytes) -> tuple[Any, bytes]:
        for name, value in changes.items():
            setattr(metadata, name, value)
        return metadata, data

    return fault


def html(metadata: Any, data: bytes) -> tuple[Any, bytes]:
    page = b"<script>alert(1)</script>"
    metadata.size_bytes, metadata.sha256 = len(page), hashlib.sha256(page).hexdigest()
    return metadata, page


@pytest.mark.parametrize(
    "fault",
    [
        with_(sha256="0" * 64),
        with_(sha256="nonsense"),
        with_(size_bytes=100 * 1024 * 1024),
        with_(size_bytes=10),
        with_(size_bytes=0),
        with_(content_type="text/html"),
        with_(width=0),
        with_(width=2**31, height=2**31),
        with_(seed=1),
        with_(source=2),
        with_(guidance_scale=float("nan")),
        with_(batch_size=2**32 - 1),
        html,
        lambda metadata, data: (None, data),
        lambda metadata, data: (None, b""),
        lambda metadata, data: (metadata, data[:-1]),
        lambda metadata, data: (metadata, data + b"x"),
    ],
)
async def test_answers_are_not_believed(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage, fault: Any
) -> None:
    generator.script = [fault] * 3
    task = await posts.finished((await posts.create(seed=9)).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "GENERATOR_ANSWER_INVALID")
    assert storage.images == {}


async def test_what_storage_found_must_be_what_the_generator_said(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.before_answer = lambda image: setattr(image, "width", 65)
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "GENERATOR_ANSWER_INVALID")
    assert not task.images


async def test_an_image_is_stored_again_but_not_painted_again(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.store_errors = [errors.Unavailable("S3 is away")] * 2
    task = await posts.done()
    assert task.attempt_count == 1
    assert len(generator.requests) == 1
    first, *others = storage.headers
    assert len(others) == 2
    assert all(header == first for header in others)
    assert first.request_id == f"{task.id}-0"
    assert first.request_time == task.create_time.__class__(
        seconds=task.create_time.seconds, nanos=task.create_time.nanos
    )


async def test_storage_that_stays_away_fails_the_attempt(
    start_posts: StartPosts, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.store_errors = [errors.Unavailable("S3 is away")] * 10_000
    async with start_posts(store_timeout_seconds=0.1, max_attempts=2) as posts:
        task = await posts.finished((await posts.create()).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "STORAGE_UNAVAILABLE")
    assert len(generator.requests) == 2


async def test_a_stored_candidate_is_not_painted_again(posts: Client, generator: ScriptedGenerator) -> None:
    def fails_once(metadata: Any, data: bytes) -> tuple[Any, bytes]:
        return metadata, b"broken"

    generator.script = [None, fails_once, None]
    task = await posts.done(candidate_count=3, seed=100)
    assert sorted(request.seed for request in generator.requests)[:2] == [100, 101]
    assert len(generator.requests) == 4
    assert [image.index for image in task.images] == [0, 1, 2]
    assert [image.seed for image in task.images] == [100, 101, 102]


async def test_candidates_are_painted_at_once(posts: Client, generator: ScriptedGenerator) -> None:
    generator.gate = asyncio.Event()
    generator.slot_count = 4
    task = await posts.create(candidate_count=4)
    await within(generator.at_gate.wait())
    while generator.in_progress < 4:
        await asyncio.sleep(0.01)
    generator.gate.set()
    assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL


@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_no_more_is_claimed_than_there_are_slots_and_places_to_wait(
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


async def test_nobody_waits_at_one_generator_while_another_is_idle(
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


async def test_cancel_stops_the_painting_at_once(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
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


async def test_cancel_by_another_process_stops_it_too(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=600.0), start_posts(generator_targets=()) as other:
        task = await other.create()
        await within(generator.at_gate.wait())
        await other.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await within(generator.cancelled.wait())


async def test_without_any_notification_the_heartbeat_finds_the_cancel(
    start_posts: StartPosts, generator: ScriptedGenerator, sql: Any
) -> None:
    await sql.execute("ALTER TABLE task_events DISABLE TRIGGER task_events_announce")
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=3.0) as posts:
        task = await posts.create()
        await within(generator.at_gate.wait())
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await within(generator.cancelled.wait())


async def test_stopping_gives_tasks_back_so_that_the_next_start_goes_on_at_once(
    start_posts: StartPosts, generator: ScriptedGenerator, sql: Any
) -> None:
    generator.gate = asyncio.Event()
    async with start_posts(lease_seconds=600.0) as posts:
        task = await posts.create()
        await within(generator.at_gate.wait())
        await posts.app.stop()
        row = await sql.fetchrow("SELECT * FROM content_tasks")
        assert (row["state"], row["attempt_count"], row["lease_token"]) == ("queued", 0, None)
    generator.gate.set()
    async with start_posts(lease_seconds=600.0) as posts:
        done = await within(posts.finished(task.id))
        assert (done.state, done.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)


async def test_a_stock_photo_carries_its_credit(posts: Client) -> None:
    (image,) = (await posts.done(use_generation=False)).images
    assert image.image_source == "pexels"
    assert image.credit == "Photo by A. Name on Pexels"
    assert image.credit_url == "https://www.pexels.com/photo/1/"
    assert image.model == ""


async def test_in_s3_it_says_so(posts: Client, storage: ScriptedStorage) -> None:
    storage.backend = images_pb2.IMAGE_BACKEND_S3
    assert (await posts.done()).images[0].image_source == "sdxl-s3"


async def test_an_image_is_kept_for_good_even_if_storage_was_away(
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
    assert storage.images[post.featured_image.key].state == images_pb2.IMAGE_STATE_PUBLISHED
    while await sql.fetchval("SELECT image_keep_at FROM posts") is not None:
        await asyncio.sleep(0.05)
