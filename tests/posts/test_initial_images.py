"""Tasks that begin from a picture: what is accepted, kept, read and sent, and what happens when the picture is gone."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2

from rpc import errors
from tests.posts.conftest import Client, StartPosts, reason, wrong_fields
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage, png

KEY = "generated/1-source.png"
MASK = png(3, 16, 16)
CHANGED = images_pb2.IMAGE_STATE_PUBLISHED


@pytest.fixture
def source(storage: ScriptedStorage) -> bytes:
    """The bytes of a stored picture under KEY, 512 x 768."""
    data = png(99, 512, 768)
    storage.put(KEY, data, 512, 768)
    return data


def begin(key: str = KEY, **fields: Any) -> t.InitialImage:
    return t.InitialImage(key=key, **fields)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


@pytest.mark.usefixtures("source")
class TestCreate:
    async def test_it_is_kept_with_the_task_and_the_mask_is_never_sent_back(self, idle: Client, sql: Any) -> None:
        given = begin(strength=0.4, mask=MASK, mask_feather=3, has_mask=False, url="ignored")
        task = await idle.create(initial_image=given)
        kept = t.InitialImage(key=KEY, strength=0.4, has_mask=True, mask_feather=3, url=f"http://media.test/{KEY}")
        listed = (await idle.tasks.ListTasks(t.ListTasksRequest())).tasks[0]
        for answer in (task, await idle.get(task.id), listed):
            assert answer.parameters.initial_image == kept
        assert bytes(await sql.fetchval("SELECT data FROM task_masks")) == MASK

    async def test_what_is_not_given_stays_unset(self, idle: Client, sql: Any) -> None:
        plain, bare = await idle.create(), await idle.create(initial_image=begin())
        assert not plain.parameters.HasField("initial_image")
        initial = bare.parameters.initial_image
        assert (initial.key, initial.HasField("strength"), initial.has_mask) == (KEY, False, False)
        assert not initial.HasField("mask_feather")
        assert await sql.fetchval("SELECT count(*) FROM task_masks") == 0

    @pytest.mark.parametrize(("given", "kept"), [(None, 8), (0, 0), (64, 64)])
    async def test_how_soft_the_border_is_is_decided_when_the_task_is_made(
        self, idle: Client, given: int | None, kept: int
    ) -> None:
        task = await idle.create(initial_image=begin(mask=MASK, mask_feather=given))
        assert task.parameters.initial_image.HasField("mask_feather")
        assert task.parameters.initial_image.mask_feather == kept
        assert await idle.get(task.id) == task

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"key": ""}, ".key"),
            ({"key": "../token"}, ".key"),
            ({"key": "a//b"}, ".key"),
            ({"key": "/a"}, ".key"),
            ({"key": "a/"}, ".key"),
            ({"key": "a b"}, ".key"),
            ({"key": "a/.b"}, ".key"),
            ({"key": "x" * 513}, ".key"),
            ({"key": "a\0"}, ".key"),
            ({"strength": 0.0}, ".strength"),
            ({"strength": -0.1}, ".strength"),
            ({"strength": 1.1}, ".strength"),
            ({"strength": float("nan")}, ".strength"),
            ({"strength": float("inf")}, ".strength"),
            ({"mask": b"no picture"}, ".mask"),
            ({"mask": MASK[:-20]}, ".mask"),
            ({"mask": MASK + bytes(256 * 1024)}, ".mask"),
            ({"mask": MASK, "mask_feather": 65}, ".mask_feather"),
            ({"mask": MASK, "mask_feather": 2**32 - 1}, ".mask_feather"),
            ({"mask_feather": 8}, ".mask_feather"),  # of what?
            ({"mask_feather": 0}, ".mask_feather"),
        ],
    )
    async def test_a_wrong_field_is_refused_by_name(self, idle: Client, fields: dict[str, Any], name: str) -> None:
        error = await refused(idle.create(initial_image=t.InitialImage(**{"key": KEY, **fields})))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert wrong_fields(error) == {f"parameters.initial_image{name}"}

    @pytest.mark.parametrize("strength", [1e-300, 1.0])
    async def test_strength_at_its_edges(self, idle: Client, strength: float) -> None:
        assert (await idle.create(initial_image=begin(strength=strength))).parameters.initial_image.strength == strength

    @pytest.mark.parametrize(
        ("fields", "end", "fine"),
        [
            ({"strength": 0.3}, 0.7, False),
            ({"strength": 0.3}, 0.71, True),
            ({}, 0.4, False),  # 0.6 when none is given
            ({}, 0.41, True),
            ({"mask": MASK}, 0.01, True),  # 1 with a mask
        ],
    )
    async def test_the_model_must_have_something_to_do(
        self, idle: Client, fields: dict[str, Any], end: float, fine: bool
    ) -> None:
        if fine:
            assert (await idle.create(initial_image=begin(**fields), denoising_end=end)).id
            return
        error = await refused(idle.create(initial_image=begin(**fields), denoising_end=end))
        assert wrong_fields(error) == {"parameters.denoising_end"}

    async def test_not_for_a_stock_photo(self, idle: Client) -> None:
        error = await refused(idle.create(initial_image=begin(), use_generation=False))
        assert wrong_fields(error) == {"parameters.initial_image"}

    async def test_the_image_must_be_there(self, idle: Client, sql: Any) -> None:
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
    async def test_the_image_must_not_be_too_large(
        self, idle: Client, storage: ScriptedStorage, changes: dict[str, int], limit: str
    ) -> None:
        key = storage.put("generated/large.png", b"", **{"width": 8000, "height": 4000, **changes})
        error = await refused(idle.create(initial_image=begin(key)))
        assert wrong_fields(error) == {"parameters.initial_image.key"}
        assert limit in (error.details() or "")

    @pytest.mark.parametrize("fault", [errors.Unavailable("10.0.0.7 away"), errors.Internal("secret"), "hangs up"])
    async def test_a_storage_that_does_not_say(self, idle: Client, storage: ScriptedStorage, fault: Any) -> None:
        storage.read_errors = [RuntimeError("secret")] if fault == "hangs up" else [fault]
        error = await refused(idle.create(initial_image=begin()))
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert "secret" not in (error.details() or "")
        assert "10.0.0.7" not in (error.details() or "")


@pytest.mark.usefixtures("source")
class TestOnce:
    @staticmethod
    def request(request_id: str = "", task_id: str = "", **fields: Any) -> t.CreateTaskRequest:
        wanted = t.GenerationParameters(prompt="a boat", use_generation=True, initial_image=begin(**fields))
        return t.CreateTaskRequest(request_id=request_id, task_id=task_id, parameters=wanted)

    @pytest.mark.parametrize("name", ["request_id", "task_id"])
    async def test_the_same_request_is_the_same_task_though_the_image_or_storage_is_gone(
        self, idle: Client, storage: ScriptedStorage, name: str, sql: Any
    ) -> None:
        """The answer to the first try may have been lost."""
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
    async def test_another_picture_is_another_body(
        self, idle: Client, storage: ScriptedStorage, name: str, other: dict[str, Any], is_gone: bool
    ) -> None:
        key = str(uuid.uuid4())
        await idle.tasks.CreateTask(self.request(**{name: key}, mask=MASK))
        if is_gone:
            storage.images.clear()
        error = await refused(idle.tasks.CreateTask(self.request(**{name: key, "mask": MASK, **other})))
        assert reason(error) == "IDEMPOTENCY_MISMATCH"

    @pytest.mark.parametrize("name", ["request_id", "task_id"])
    async def test_a_request_of_before_there_were_soft_borders_finds_its_task(
        self, idle: Client, name: str, sql: Any
    ) -> None:
        """And does not make it softer than it was."""
        request = self.request(**{name: str(uuid.uuid4())}, mask=MASK)
        made = (await idle.tasks.CreateTask(request)).task
        await sql.execute("UPDATE content_tasks SET initial_image = initial_image - 'mask_feather'")
        again = (await idle.tasks.CreateTask(request)).task
        assert again.id == made.id
        assert again.parameters.initial_image.HasField("mask_feather")
        assert again.parameters.initial_image.mask_feather == 0

    async def test_a_refused_request_leaves_its_id_free(self, idle: Client, storage: ScriptedStorage) -> None:
        storage.read_errors = [errors.Unavailable("away")]
        assert reason(await refused(idle.tasks.CreateTask(self.request("key")))) == "STORAGE_UNAVAILABLE"
        assert (await idle.tasks.CreateTask(self.request("key"))).task.id


class TestAttempt:
    async def test_picture_strength_and_mask_reach_the_generator(
        self, posts: Client, generator: ScriptedGenerator, source: bytes
    ) -> None:
        task = await posts.done(initial_image=begin(strength=0.4, mask=MASK, mask_feather=3), candidate_count=2)
        assert len(task.images) == 2
        for request in generator.requests:
            sent = request.initial_image
            assert (sent.data, sent.strength, sent.mask, sent.mask_feather) == (source, 0.4, MASK, 3)
            assert (request.width, request.height) == (512, 768)  # the picture's own
        await posts.done(initial_image=begin(), width=1024)
        last = generator.requests[-1]
        assert not last.initial_image.HasField("strength")
        assert not last.initial_image.HasField("mask_feather")
        assert (last.width, last.HasField("height"), last.initial_image.mask) == (1024, False, b"")

    async def test_an_image_that_vanished_fails_the_task_at_once(
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
            assert generator.requests[0].initial_image.data == source

    async def test_picture_and_mask_survive_restart_and_retry(
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
        assert {(one.initial_image.data, one.initial_image.mask) for one in generator.requests} == {(source, MASK)}
        assert len({one.seed for one in generator.requests}) == 1

    @pytest.mark.usefixtures("source")
    async def test_a_task_of_before_there_were_soft_borders_keeps_its_hard_one(
        self, idle: Client, start_posts: StartPosts, generator: ScriptedGenerator, sql: Any
    ) -> None:
        """Painted again it must be the same picture. One without a mask has no border, and none is asked for."""
        masked = await idle.create(initial_image=begin(mask=MASK), seed=7)
        plain = await idle.create(initial_image=begin(), seed=8)
        await sql.execute("UPDATE content_tasks SET initial_image = initial_image - 'mask_feather'")
        generator.script = [(errors.Unavailable("away"),)]
        async with start_posts() as posts:
            for task in (masked, plain):
                assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL
        sent = [request.initial_image for request in generator.requests if request.seed == 7]
        assert len(sent) == 2
        assert all(one.HasField("mask_feather") and one.mask_feather == 0 for one in sent)
        assert not any(one.initial_image.HasField("mask_feather") for one in generator.requests if one.seed == 8)

    @pytest.mark.usefixtures("source")
    async def test_every_attempt_asks_for_the_same_border(
        self, idle: Client, start_posts: StartPosts, generator: ScriptedGenerator
    ) -> None:
        """The one that was decided when the task was made, not what a generator takes for usual by then."""
        task = await idle.create(initial_image=begin(mask=MASK))
        generator.script = [(errors.Unavailable("away"),)]
        async with start_posts() as posts:
            assert (await posts.finished(task.id)).state == t.TASK_STATE_AWAITING_APPROVAL
        sent = [request.initial_image for request in generator.requests]
        assert len(sent) == 2
        assert all(one.HasField("mask_feather") and one.mask_feather == 8 for one in sent)

    @pytest.mark.usefixtures("source")
    async def test_a_storage_that_is_away_for_a_moment_costs_no_attempt(
        self, idle: Client, start_posts: StartPosts, storage: ScriptedStorage
    ) -> None:
        task = await idle.create(initial_image=begin())
        storage.read_errors = [errors.Unavailable("away")] * 2
        async with start_posts(store_timeout_seconds=20) as posts:
            done = await posts.finished(task.id)
        assert not storage.read_errors
        assert (done.state, done.attempt_count) == (t.TASK_STATE_AWAITING_APPROVAL, 1)

    @pytest.mark.usefixtures("source")
    async def test_a_storage_that_sends_other_bytes_is_asked_again(
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
    async def test_a_model_that_cannot_begin_from_a_picture(self, posts: Client, generator: ScriptedGenerator) -> None:
        task = await posts.finished((await posts.create(initial_image=begin(), model="plain")).id)
        assert (task.state, task.error.reason, task.attempt_count) == (t.TASK_STATE_FAILED, "INVALID_ARGUMENT", 1)
        assert task.error.message == "initial_image: the model plain cannot begin from a picture"
        assert not generator.requests

    @pytest.mark.usefixtures("source")
    @pytest.mark.parametrize("field", ["sha256", "mask_sha256"])
    async def test_a_generator_that_begins_from_something_else_is_not_believed(
        self, posts: Client, generator: ScriptedGenerator, field: str
    ) -> None:
        def ignore(metadata: Any, data: bytes) -> Any:
            metadata.initial_image.ClearField(field)
            return metadata, data

        generator.script = [ignore]
        events = await posts.events((await posts.create(initial_image=begin(mask=MASK))).id)
        (error,) = (event.state_change.error for event in events if event.state_change.HasField("error"))
        assert error.reason == "GENERATOR_ANSWER_INVALID"
        assert "another picture" in error.message
        assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL

    @pytest.mark.usefixtures("source")
    async def test_a_generator_of_before_there_were_soft_borders_is_not_believed(
        self, posts: Client, generator: ScriptedGenerator
    ) -> None:
        """It takes no notice of the field, and tells of none. For a hard border it is as good as any."""

        def before(metadata: Any, data: bytes) -> Any:
            metadata.initial_image.ClearField("mask_feather")
            return metadata, data

        generator.script = [before]
        hard = await posts.create(initial_image=begin(mask=MASK, mask_feather=0))
        assert (await posts.finished(hard.id)).attempt_count == 1
        generator.script = [before]
        events = await posts.events((await posts.create(initial_image=begin(mask=MASK))).id)
        (error,) = (event.state_change.error for event in events if event.state_change.HasField("error"))
        assert (error.reason, error.message) == ("GENERATOR_ANSWER_INVALID", "the generator made another border")
        assert events[-1].state_change.state == t.TASK_STATE_AWAITING_APPROVAL

    @pytest.mark.usefixtures("source")
    async def test_a_cancelled_task_reads_nothing_on(
        self, posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage
    ) -> None:
        generator.gate = asyncio.Event()
        task = await posts.create(initial_image=begin())
        await generator.at_gate.wait()
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        await asyncio.wait_for(generator.cancelled.wait(), 20)
        assert (await posts.get(task.id)).state == t.TASK_STATE_CANCELLED


@pytest.mark.usefixtures("source")
class TestKeeping:
    async def test_storage_is_told_to_keep_the_image(self, posts: Client, storage: ScriptedStorage, sql: Any) -> None:
        storage.keep_error = errors.Unavailable("away")
        await posts.create(initial_image=begin())
        while storage.keep_error:
            await asyncio.sleep(0.05)
        await sql.execute("UPDATE content_tasks SET initial_image_keep_at = now()")  # not to wait for half a minute
        await asyncio.wait_for(storage.kept.wait(), 20)
        assert storage.images[KEY].state == CHANGED
        while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE initial_image_keep_at IS NOT NULL"):
            await asyncio.sleep(0.05)

    async def test_one_that_is_gone_is_not_asked_for_again(
        self, idle: Client, storage: ScriptedStorage, sql: Any
    ) -> None:
        await idle.create(initial_image=begin())
        storage.images.clear()
        while await sql.fetchval("SELECT count(*) FROM content_tasks WHERE initial_image_keep_at IS NOT NULL"):
            await asyncio.sleep(0.05)

    async def test_a_task_without_a_picture_asks_for_nothing(self, idle: Client, sql: Any) -> None:
        await idle.create()
        assert await sql.fetchval("SELECT initial_image_keep_at FROM content_tasks") is None
