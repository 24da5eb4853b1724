"""Tasks with an initial image: what a worker reads, sends and checks, and what happens when the image is gone."""

import asyncio
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import InitialImage

from rpc import errors
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage, png

KEY = "generated/1-source.png"
MASK = png(3, 16, 16)
CHANGED = images_pb2.IMAGE_STATE_PUBLISHED


@pytest.fixture
def source(storage: ScriptedStorage) -> bytes:
    """The bytes of a stored image under KEY, 512 x 768."""
    data = png(99, 512, 768)
    storage.put(KEY, data, 512, 768)
    return data


def begin(key: str = KEY, **fields: Any) -> InitialImage:
    return InitialImage(key=key, **fields)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


class TestAttempt:
    async def test_image_strength_and_mask_reach_the_generator(
        self, posts: Client, generator: ScriptedGenerator, source: bytes
    ) -> None:
        task = await posts.done(initial_image=begin(strength=0.4, mask=MASK, mask_feather=3), candidate_count=2)
        assert len(task.images) == 2
        for request in generator.requests:
            sent = request.parameters.initial_image
            assert (request.initial_image, sent.strength, sent.mask, sent.mask_feather) == (source, 0.4, MASK, 3)
            assert (request.parameters.width, request.parameters.height) == (512, 768)  # of the initial image
        await posts.done(initial_image=begin(), width=1024)
        last = generator.requests[-1].parameters
        assert not last.initial_image.HasField("strength")
        assert not last.initial_image.HasField("mask_feather")
        assert (last.width, last.HasField("height"), last.initial_image.mask) == (1024, False, b"")

    async def test_image_that_was_deleted_fails_the_task_at_once(
        self,
        idle: Client,
        start_posts: StartPosts,
        generator: ScriptedGenerator,
        storage: ScriptedStorage,
        source: bytes,
    ) -> None:
        task = await idle.create(initial_image=begin())
        del storage.images[KEY]
        async with start_posts() as posts:
            failed = await posts.finished(task.id)
            assert (failed.state, failed.attempt_count) == (t.TASK_STATE_FAILED, 1)
            assert (failed.error.reason, failed.error.will_retry) == ("IMAGE_NOT_FOUND", False)
            assert KEY in failed.error.message
            assert not generator.requests
            storage.put(KEY, source, 512, 768)
            await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))
            assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL
            assert generator.requests[0].initial_image == source

    async def test_image_and_mask_survive_restart_and_retry(
        self, idle: Client, start_posts: StartPosts, generator: ScriptedGenerator, source: bytes
    ) -> None:
        task = await idle.create(initial_image=begin(mask=MASK))
        generator.script = [errors.Unavailable("away"), (errors.InvalidArgument("no"),)]
        async with start_posts() as posts:
            assert (await posts.finished(task.id)).state == t.TASK_STATE_FAILED
        async with start_posts() as posts:
            await posts.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))
            assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL
        assert len(generator.requests) == 3
        sent = [
            (one.initial_image, one.parameters.initial_image.mask, one.parameters.seed) for one in generator.requests
        ]
        assert set(sent) == {(source, MASK, sent[0][2])}

    @pytest.mark.usefixtures("source")
    @pytest.mark.parametrize("feather", [None, 0, 64])
    async def test_every_attempt_sends_the_mask_feather_of_the_task(
        self, idle: Client, start_posts: StartPosts, generator: ScriptedGenerator, feather: int | None
    ) -> None:
        """Not set: the generator decides."""
        task = await idle.create(initial_image=begin(mask=MASK, mask_feather=feather))
        generator.script = [(errors.Unavailable("away"),)]
        async with start_posts() as posts:
            assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL
        sent = [request.parameters.initial_image for request in generator.requests]
        assert len(sent) == 2
        for one in sent:
            assert (one.mask_feather if one.HasField("mask_feather") else None) == feather

    @pytest.mark.usefixtures("source")
    async def test_short_outage_of_storage_costs_no_attempt(
        self, idle: Client, start_posts: StartPosts, storage: ScriptedStorage
    ) -> None:
        task = await idle.create(initial_image=begin())
        storage.read_errors = [errors.Unavailable("away")] * 2
        async with start_posts(store_timeout_seconds=20) as posts:
            done = await posts.finished(task.id)
        assert not storage.read_errors
        assert (done.state, done.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)

    @pytest.mark.usefixtures("source")
    async def test_wrong_bytes_from_storage_fail_the_attempt(
        self, idle: Client, start_posts: StartPosts, storage: ScriptedStorage, generator: ScriptedGenerator
    ) -> None:
        task = await idle.create(initial_image=begin())
        storage.bytes_of[KEY] = b"other"
        async with start_posts() as posts:
            events = await posts.events(task.id)
        reasons = {e.state_change.error.reason for e in events if e.state_change.HasField("error")}
        assert reasons == {"IMAGE_INVALID"}
        assert (events[-1].state_change.state, events[-1].state_change.attempt) == (t.TASK_STATE_FAILED, 3)
        assert not generator.requests

    @pytest.mark.usefixtures("source")
    @pytest.mark.parametrize("field", ["initial_image_sha256", "mask_sha256"])
    async def test_generator_that_used_another_image_is_not_believed(
        self, posts: Client, generator: ScriptedGenerator, field: str
    ) -> None:
        def ignore(metadata: Any, data: bytes) -> Any:
            metadata.generation.ClearField(field)
            return metadata, data

        generator.script = [ignore]
        events = await posts.events((await posts.create(initial_image=begin(mask=MASK))).id)
        (error,) = (event.state_change.error for event in events if event.state_change.HasField("error"))
        assert error.reason == "GENERATOR_ANSWER_INVALID"
        assert "another image" in error.message
        assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL

    @pytest.mark.usefixtures("source")
    async def test_generator_that_uses_another_mask_feather_is_not_believed(
        self, posts: Client, generator: ScriptedGenerator
    ) -> None:
        def hard(metadata: Any, data: bytes) -> Any:
            metadata.generation.parameters.initial_image.mask_feather = 0
            return metadata, data

        generator.script = [hard]
        task = await posts.create(initial_image=begin(mask=MASK, mask_feather=0))
        assert (await posts.finished(task.id)).attempt_count == 1
        generator.script = [hard]
        events = await posts.events((await posts.create(initial_image=begin(mask=MASK, mask_feather=8))).id)
        (error,) = (event.state_change.error for event in events if event.state_change.HasField("error"))
        assert (error.reason, error.message) == ("GENERATOR_ANSWER_INVALID", "the generator used another mask_feather")
        assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL

    @pytest.mark.usefixtures("source")
    async def test_cancel_stops_the_generator(
        self, posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
    ) -> None:
        generator.gate = asyncio.Event()
        task = await posts.create(initial_image=begin())
        await generator.at_gate.wait()
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await asyncio.wait_for(generator.cancelled.wait(), 20)
        assert (await posts.get(task.id)).state == t.TASK_STATE_CANCELLED


@pytest.mark.usefixtures("source")
class TestRetaining:
    async def test_storage_is_asked_to_retain_the_image(
        self, posts: Client, storage: ScriptedStorage, sql: Any
    ) -> None:
        storage.keep_error = errors.Unavailable("away")
        await posts.create(initial_image=begin())
        while storage.keep_error:
            await asyncio.sleep(0.05)
        await sql.execute("UPDATE content_tasks SET initial_image_keep_at = now()")  # not to wait for half a minute
        await asyncio.wait_for(storage.kept.wait(), 20)
        assert storage.images[KEY].state == CHANGED
        while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE initial_image_keep_at IS NOT NULL"):
            await asyncio.sleep(0.05)

    async def test_missing_image_is_not_asked_for_again(
        self, maintained: Client, storage: ScriptedStorage, sql: Any
    ) -> None:
        await maintained.create(initial_image=begin())
        storage.images.clear()
        while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE initial_image_keep_at IS NOT NULL"):
            await asyncio.sleep(0.05)

    async def test_task_without_initial_image_retains_nothing(self, idle: Client, sql: Any) -> None:
        await idle.create()
        assert await sql.fetchval("SELECT initial_image_keep_at FROM content_tasks") is None
