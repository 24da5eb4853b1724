"""Attempts: what a generator and a storage may do wrong, and what happens to the task."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import IMAGE_SOURCE_STOCK

from rpc import errors
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage

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
async def test_transient_fault_costs_one_attempt(
    posts: Client, generator: ScriptedGenerator, fault: Any, reason: str
) -> None:
    generator.script = [fault]
    events = await posts.events((await posts.create(seed=5)).id)
    changes = [event.state_change for event in events if event.WhichOneof("kind") == "state_change"]
    assert [change.state for change in changes] == [
        t.TASK_STATE_QUEUED,
        t.TASK_STATE_GENERATING,
        t.TASK_STATE_QUEUED,
        t.TASK_STATE_GENERATING,
        t.TASK_STATE_AWAITING_APPROVAL,
    ]
    assert changes[2].error.reason == reason
    assert changes[2].error.will_retry
    assert "hunter2" not in changes[2].error.message
    assert {request.parameters.seed for request in generator.requests} == {5}
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
async def test_permanent_fault_fails_the_task_at_once(
    posts: Client, generator: ScriptedGenerator, fault: Any, reason: str
) -> None:
    generator.script = [fault]
    task = await posts.finished((await posts.create()).id)
    assert task.state == t.TASK_STATE_FAILED
    assert (task.error.reason, task.error.will_retry, task.attempt_count) == (reason, False, 1)
    retried = (await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))).task
    assert not retried.HasField("error")
    assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL


async def test_task_fails_when_attempts_run_out(posts: Client, generator: ScriptedGenerator) -> None:
    generator.script = [errors.Unavailable("away")] * 3
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count, task.error.will_retry) == (t.TASK_STATE_FAILED, 3, False)
    assert len(generator.requests) == 3


async def test_full_generator_costs_no_attempt(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
    generator.script = [errors.ResourceExhausted("full", retry_after_seconds=0.05)] * 2
    async with start_posts(max_attempts=1) as posts:
        task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)


async def test_request_that_is_too_large_is_not_sent_for_ever(posts: Client, generator: ScriptedGenerator) -> None:
    """gRPC responds so to a message that is too large; a full queue of the generator gives a delay."""
    generator.script = [errors.ResourceExhausted("Received message larger than max")] * 3
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.attempt_count) == (t.TASK_STATE_FAILED, 3)
    assert task.error.reason == "GENERATOR_RESOURCE_EXHAUSTED"


async def test_silent_generator_fails_the_attempt(start_posts: StartPosts, generator: ScriptedGenerator) -> None:
    generator.script = ["hang"]
    async with start_posts(step_timeout_seconds=0.3) as posts:
        events = await within(posts.events((await posts.create()).id))
        await within(generator.cancelled.wait())
    errors_told = [event.state_change.error.reason for event in events if event.state_change.HasField("error")]
    assert errors_told == ["GENERATOR_STALLED"]
    assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL


def with_(path: str, value: Any) -> Callable[[Any, bytes], tuple[Any, bytes]]:
    """A response whose description has another value at `path`."""

    def fault(metadata: Any, data: bytes) -> tuple[Any, bytes]:
        *parents, name = path.split(".")
        message = metadata
        for parent in parents:
            message = getattr(message, parent)
        setattr(message, name, value)
        return metadata, data

    return fault


def html(metadata: Any, data: bytes) -> tuple[Any, bytes]:
    page = b"<script>alert(1)</script>"
    metadata.file.size_bytes, metadata.file.sha256 = len(page), hashlib.sha256(page).hexdigest()
    return metadata, page


FAULTS: dict[str, Callable[[Any, bytes], tuple[Any, bytes]]] = {
    "other-sha256": with_("file.sha256", "0" * 64),
    "no-sha256": with_("file.sha256", "nonsense"),
    "too-large": with_("file.size_bytes", 100 * 1024 * 1024),
    "smaller": with_("file.size_bytes", 10),
    "empty": with_("file.size_bytes", 0),
    "other-type": with_("file.content_type", "text/html"),
    "no-width": with_("file.width", 0),
    "other-seed": with_("generation.parameters.seed", 1),
    "stock": with_("generation.parameters.source", IMAGE_SOURCE_STOCK),
    "guidance-nan": with_("generation.parameters.guidance_scale", float("nan")),
    "html": html,
    "no-description": lambda metadata, data: (None, data),
    "nothing": lambda metadata, data: (None, b""),
    "cut": lambda metadata, data: (metadata, data[:-1]),
    "longer": lambda metadata, data: (metadata, data + b"x"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_image_unlike_its_description_is_not_stored(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage, fault: Any
) -> None:
    generator.script = [fault] * 3
    task = await posts.finished((await posts.create(seed=9)).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "GENERATOR_ANSWER_INVALID")
    assert storage.images == {}


async def test_storage_must_find_what_the_generator_described(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.before_answer = lambda image: setattr(image.image.file, "width", 65)
    task = await posts.finished((await posts.create()).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "GENERATOR_ANSWER_INVALID")
    assert not task.images


async def test_storing_is_repeated_without_generating_again(
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


async def test_storage_that_stays_unavailable_fails_the_attempt(
    start_posts: StartPosts, generator: ScriptedGenerator, storage: ScriptedStorage
) -> None:
    storage.store_errors = [errors.Unavailable("S3 is away")] * 10_000
    async with start_posts(store_timeout_seconds=0.1, max_attempts=2) as posts:
        task = await posts.finished((await posts.create()).id)
    assert (task.state, task.error.reason) == (t.TASK_STATE_FAILED, "STORAGE_UNAVAILABLE")
    assert len(generator.requests) == 2


async def test_stored_candidate_is_not_generated_again(posts: Client, generator: ScriptedGenerator) -> None:
    def fails_once(metadata: Any, data: bytes) -> tuple[Any, bytes]:
        return metadata, b"broken"

    generator.script = [None, fails_once, None]
    task = await posts.done(candidate_count=3, seed=100)
    assert sorted(request.parameters.seed for request in generator.requests)[:2] == [100, 101]
    assert len(generator.requests) == 4
    assert [image.index for image in task.images] == [0, 1, 2]
    assert [image.generation.parameters.seed for image in task.images] == [100, 101, 102]


async def test_candidates_are_generated_in_parallel(posts: Client, generator: ScriptedGenerator) -> None:
    generator.gate = asyncio.Event()
    generator.slot_count = 4
    task = await posts.create(candidate_count=4)
    await within(generator.at_gate.wait())
    while generator.in_progress < 4:
        await asyncio.sleep(0.01)
    generator.gate.set()
    assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL


async def test_stock_photo_has_its_credit(posts: Client) -> None:
    (image,) = (await posts.done(source=IMAGE_SOURCE_STOCK)).images
    assert image.image_source == "pexels"
    attribution = image.generation.attribution
    assert (attribution.provider, attribution.author) == ("pexels", "A. Name")
    assert attribution.source_url == "https://www.pexels.com/photo/1/"
    assert image.generation.parameters.model == ""


async def test_image_source_names_s3(posts: Client, storage: ScriptedStorage) -> None:
    storage.backend = images_pb2.IMAGE_BACKEND_S3
    assert (await posts.done()).images[0].image_source == "sdxl-s3"
