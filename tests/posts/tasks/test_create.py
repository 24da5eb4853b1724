"""CreateTask: one task for each request, however often it is sent."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1.generation_pb2 import IMAGE_SOURCE_GENERATED, GenerationParameters, Lora

from tests.posts.conftest import Client, reason


def request(request_id: str = "", task_id: str = "", candidate_count: int = 0, **fields: Any) -> t.CreateTaskRequest:
    parameters = GenerationParameters(**{"prompt": "a boat", **fields})
    return t.CreateTaskRequest(
        request_id=request_id, task_id=task_id, parameters=parameters, candidate_count=candidate_count
    )


async def test_task_keeps_its_parameters_and_gets_a_seed(idle: Client) -> None:
    response = await idle.tasks.CreateTask(
        request(
            width=512,
            num_inference_steps=7,
            guidance_scale=0.0,
            negative_prompt="rain",
            candidate_count=2,
            loras=[Lora(name="ink", weight=0.5), Lora(name="été")],
            guidance_end=0.5,
            denoising_end=0.8,
        ),
        metadata=[("x-principal", "ada")],
    )
    task = response.task
    assert task.created_by == task.updated_by == "ada"
    parameters = task.parameters
    assert (parameters.prompt, parameters.negative_prompt, parameters.width) == ("a boat", "rain", 512)
    assert parameters.num_inference_steps == 7
    assert not parameters.HasField("height")
    assert parameters.HasField("guidance_scale")
    assert parameters.HasField("seed")
    assert [(lora.name, lora.weight) for lora in parameters.loras] == [("ink", 0.5), ("été", 0.0)]
    assert not parameters.loras[1].HasField("weight")
    assert (parameters.guidance_end, parameters.denoising_end) == (0.5, 0.8)
    assert (task.attempt_count, task.last_sequence, task.queue_position) == (0, 1, 0)
    assert task == await idle.get(task.id)


async def test_parallel_creates_with_one_request_id_make_one_task(idle: Client, sql: Any) -> None:
    responses = await asyncio.gather(*(idle.tasks.CreateTask(request("the-key")) for _ in range(50)))
    assert len({response.task.id for response in responses}) == 1
    assert len({response.task.parameters.seed for response in responses}) == 1
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 1
    assert await sql.fetchval("SELECT count(*) FROM task_events") == 1


async def test_parallel_creates_with_one_task_id_make_one_task(idle: Client, sql: Any) -> None:
    task_id = str(uuid.uuid4())
    responses = await asyncio.gather(*(idle.tasks.CreateTask(request(task_id=task_id)) for _ in range(50)))
    assert {response.task.id for response in responses} == {task_id}
    assert await sql.fetchval("SELECT count(*) FROM task_events") == 1


@pytest.mark.parametrize("name", ["request_id", "task_id"])
async def test_another_request_with_the_same_key_is_refused(idle: Client, name: str, sql: Any) -> None:
    key = str(uuid.uuid4())
    await idle.tasks.CreateTask(request(**{name: key}))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.tasks.CreateTask(request(**{name: key}, prompt="another boat"))
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason(raised.value) == "IDEMPOTENCY_MISMATCH"
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 1


async def test_defaults_that_are_given_are_the_same_request(idle: Client) -> None:
    plain = await idle.tasks.CreateTask(request("key"))
    spelled = request("key", candidate_count=1, source=IMAGE_SOURCE_GENERATED)
    assert (await idle.tasks.CreateTask(spelled)).task == plain.task
    assert plain.task.candidate_count == 1


async def test_text_in_another_normal_form_is_the_same_request(idle: Client) -> None:
    first = (await idle.tasks.CreateTask(request("key", prompt="café"))).task
    assert (await idle.tasks.CreateTask(request("key", prompt=" cafe\u0301 "))).task == first


@pytest.mark.parametrize(
    "change",
    [{"loras": [Lora(name="ink")]}, {"guidance_end": 0.0}, {"denoising_end": 0.8}, {"seed": 0}, {"candidate_count": 2}],
    ids=lambda change: next(iter(change)),
)
async def test_every_parameter_is_part_of_the_request(idle: Client, change: dict[str, Any]) -> None:
    await idle.tasks.CreateTask(request("key"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.tasks.CreateTask(request("key", **change))
    assert reason(raised.value) == "IDEMPOTENCY_MISMATCH"


async def test_request_id_belongs_to_its_principal(idle: Client) -> None:
    ids = {(await idle.tasks.CreateTask(request("same"), metadata=[("x-principal", name)])).task.id for name in "abab"}
    assert len(ids) == 2


async def test_refused_create_leaves_its_request_id_unused(idle: Client) -> None:
    taken = str(uuid.uuid4())
    await idle.tasks.CreateTask(request(task_id=taken))
    with pytest.raises(grpc.aio.AioRpcError):
        await idle.tasks.CreateTask(request("key", task_id=taken, prompt="other"))
    assert (await idle.tasks.CreateTask(request("key", prompt="third"))).task.parameters.prompt == "third"


async def listed_positions(idle: Client) -> list[int | None]:
    tasks = (await idle.tasks.ListTasks(t.ListTasksRequest())).tasks
    return [task.queue_position if task.HasField("queue_position") else None for task in tasks]


async def test_queue_position_counts_earlier_tasks(idle: Client) -> None:
    ids = [(await idle.create()).id for _ in range(3)]
    assert [(await idle.get(task_id)).queue_position for task_id in ids] == [0, 1, 2]
    await idle.tasks.CancelTask(t.CancelTaskRequest(task_id=ids[0]))
    assert [(await idle.get(task_id)).queue_position for task_id in ids[1:]] == [0, 1]
    assert not (await idle.get(ids[0])).HasField("queue_position")
    assert await listed_positions(idle) == [1, 0, None]


async def test_queue_position_is_counted_up_to_a_thousand(idle: Client, sql: Any) -> None:
    await idle.create()
    columns = "max_attempts, created_by, updated_by, last_sequence, parameters, candidate_count, request_hash"
    await sql.execute(
        f"INSERT INTO content_tasks (id, {columns}) "
        f"SELECT gen_random_uuid(), {columns} FROM content_tasks, generate_series(1, 1100)"
    )
    assert (await idle.create()).queue_position == 1000
    assert (await listed_positions(idle))[0] == 1000


async def test_unknown_ids_are_not_found(idle: Client) -> None:
    for task_id in (str(uuid.uuid4()), "", "nonsense", "x" * 5000):
        calls = [
            idle.tasks.GetTask(t.GetTaskRequest(task_id=task_id)),
            idle.tasks.CancelTask(t.CancelTaskRequest(task_id=task_id)),
            idle.tasks.RetryTask(t.RetryTaskRequest(task_id=task_id)),
            idle.tasks.ApproveTask(t.ApproveTaskRequest(task_id=task_id, title="x")),
            idle.tasks.RejectTask(t.RejectTaskRequest(task_id=task_id)),
            idle.events(task_id),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
