"""Tasks with an initial image: what is accepted, kept and returned."""

import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import GenerationParameters, InitialImage

from rpc import errors
from tests.posts.conftest import BASE, Client, reason, wrong_fields
from tests.posts.leaves import ScriptedStorage, png

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
        kept = InitialImage(key=KEY, strength=0.4, has_mask=True, mask_feather=3, url=f"{BASE}/media/{KEY}")
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
