"""Tasks with an initial image: what is accepted, kept, read and sent, and what happens when the image is gone."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import GenerationParameters, InitialImage

from rpc import errors
from tests.posts.conftest import Client, StartPosts, reason, wrong_fields
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


@pytest.mark.usefixtures("source")
class TestCreate:
    async def test_initial_image_is_returned_without_its_mask(self, idle: Client, sql: Any) -> None:
        given = begin(strength=0.4, mask=MASK, mask_feather=3, has_mask=False, url="ignored")
        task = await idle.create(initial_image=given)
        kept = InitialImage(key=KEY, strength=0.4, has_mask=True, mask_feather=3, url=f"http://media.test/{KEY}")
        listed = (await idle.tasks.ListTasks(t.ListTasksRequest())).tasks[0]
        for answer in (task, await idle.get(task.id), listed):
            assert answer.parameters.initial_image == kept
        assert bytes(await sql.fetchval("SELECT data FROM task_masks")) == MASK

    async def test_fields_that_are_not_given_stay_unset(self, idle: Client, sql: Any) -> None:
        plain, bare = await idle.create(), await idle.create(initial_image=begin())
        assert not plain.parameters.HasField("initial_image")
        initial = bare.parameters.initial_image
        assert (initial.key, initial.HasField("strength"), initial.has_mask) == (KEY, False, False)
        assert not initial.HasField("mask_feather")
        assert await sql.fetchval("SELECT count(*) FROM task_masks") == 0

    async def test_missing_image_is_refused(self, idle: Client, sql: Any) -> None:
        error = await refused(idle.create(initial_image=begin("generated/none.png")))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (reason(error), wrong_fields(error)) == ("IMAGE_NOT_FOUND", {"parameters.initial_image.key"})
        assert "generated/none.png" in (error.details() or "")
        assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 0

    @pytest.mark.parametrize(
        ("changes", "limit"),
        [
            ({"size_bytes": 16 * 1024 * 1024 + 1}, "16777216 bytes"),
            ({"width": 8000, "height": 4001}, "32000000 pixels"),
        ],
    )
    async def test_too_large_image_is_refused(
        self, idle: Client, storage: ScriptedStorage, changes: dict[str, int], limit: str
    ) -> None:
        key = storage.put("generated/large.png", b"", **{"width": 8000, "height": 4000, **changes})
        error = await refused(idle.create(initial_image=begin(key)))
        assert wrong_fields(error) == {"parameters.initial_image.key"}
        assert limit in (error.details() or "")

    @pytest.mark.parametrize("fault", [errors.Unavailable("10.0.0.7 away"), errors.Internal("secret"), "hangs up"])
    async def test_unavailable_storage_makes_the_call_unavailable(
        self, idle: Client, storage: ScriptedStorage, fault: Any
    ) -> None:
        storage.read_errors = [RuntimeError("secret")] if fault == "hangs up" else [fault]
        error = await refused(idle.create(initial_image=begin()))
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert "secret" not in (error.details() or "")
        assert "10.0.0.7" not in (error.details() or "")


@pytest.mark.usefixtures("source")
class TestOnce:
    @staticmethod
    def request(request_id: str = "", task_id: str = "", **fields: Any) -> t.CreateTaskRequest:
        wanted = GenerationParameters(prompt="a boat", initial_image=begin(**fields))
        return t.CreateTaskRequest(request_id=request_id, task_id=task_id, parameters=wanted)

    @pytest.mark.parametrize("name", ["request_id", "task_id"])
    async def test_repeated_request_finds_its_task_without_storage_and_image(
        self, idle: Client, storage: ScriptedStorage, name: str, sql: Any
    ) -> None:
        """The response to the first call may have been lost."""
        request = self.request(**{name: str(uuid.uuid4())}, mask=MASK)
        task = (await idle.tasks.CreateTask(request)).task
        assert (await idle.tasks.CreateTask(request)).task == task
        storage.read_errors = [errors.Unavailable("away")]
        assert (await idle.tasks.CreateTask(request)).task == task
        storage.images.clear()
        assert (await idle.tasks.CreateTask(request)).task == task
        assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 1
        assert await sql.fetchval("SELECT count(*) FROM task_masks") == 1

    @pytest.mark.parametrize("name", ["request_id", "task_id"])
    @pytest.mark.parametrize("other", [{"mask": png(4, 16, 16)}, {"mask": b""}, {"strength": 0.5}, {"mask_feather": 8}])
    @pytest.mark.parametrize("is_gone", [False, True])
    async def test_another_image_is_another_request(
        self, idle: Client, storage: ScriptedStorage, name: str, other: dict[str, Any], is_gone: bool
    ) -> None:
        key = str(uuid.uuid4())
        await idle.tasks.CreateTask(self.request(**{name: key}, mask=MASK))
        if is_gone:
            storage.images.clear()
        error = await refused(idle.tasks.CreateTask(self.request(**{name: key, "mask": MASK, **other})))
        assert reason(error) == "IDEMPOTENCY_MISMATCH"

    async def test_refused_request_leaves_its_request_id_unused(self, idle: Client, storage: ScriptedStorage) -> None:
        storage.read_errors = [errors.Unavailable("away")]
        assert reason(await refused(idle.tasks.CreateTask(self.request("key")))) == "STORAGE_UNAVAILABLE"
        assert (await idle.tasks.CreateTask(self.request("key"))).task.id


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
