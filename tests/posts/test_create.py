"""CreateTask: one task a request, however often it is sent."""

import asyncio
import hashlib
import json
import uuid
from dataclasses import asdict, replace
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from services.posts.database import idempotency
from services.posts.models import InitialImage, Lora, Parameters
from tests.posts.conftest import Client, reason


def request(request_id: str = "", task_id: str = "", **parameters: Any) -> t.CreateTaskRequest:
    wanted = t.GenerationParameters(**{"prompt": "a boat", "use_generation": True, **parameters})
    return t.CreateTaskRequest(request_id=request_id, task_id=task_id, parameters=wanted)


async def test_a_task_keeps_what_was_asked_for_and_chooses_a_seed(idle: Client) -> None:
    answer = await idle.tasks.CreateTask(
        request(
            width=512,
            num_inference_steps=7,
            guidance_scale=0.0,
            negative_prompt="rain",
            candidate_count=2,
            loras=[t.Lora(name="ink", weight=0.5), t.Lora(name="été")],
            guidance_end=0.5,
            denoising_end=0.8,
        ),
        metadata=[("x-principal", "ada")],
    )
    task = answer.task
    assert task.created_by == task.updated_by == "ada"
    wanted = task.parameters
    assert (wanted.prompt, wanted.negative_prompt, wanted.width) == ("a boat", "rain", 512)
    assert wanted.num_inference_steps == 7
    assert not wanted.HasField("height")
    assert wanted.HasField("guidance_scale")
    assert wanted.HasField("seed")
    assert [(lora.name, lora.weight) for lora in wanted.loras] == [("ink", 0.5), ("été", 1.0)]
    assert (wanted.guidance_end, wanted.denoising_end) == (0.5, 0.8)
    assert (task.attempt_count, task.last_sequence, task.queue_position) == (0, 1, 0)
    assert task == await idle.get(task.id)


async def test_fifty_parallel_creates_with_one_request_id_make_one_task(idle: Client, sql: Any) -> None:
    answers = await asyncio.gather(*(idle.tasks.CreateTask(request("the-key")) for _ in range(50)))
    assert len({answer.task.id for answer in answers}) == 1
    assert len({answer.task.parameters.seed for answer in answers}) == 1
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 1
    assert await sql.fetchval("SELECT count(*) FROM task_events") == 1


async def test_fifty_parallel_creates_with_one_task_id_make_one_task(idle: Client, sql: Any) -> None:
    task_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(idle.tasks.CreateTask(request(task_id=task_id)) for _ in range(50)))
    assert {answer.task.id for answer in answers} == {task_id}
    assert await sql.fetchval("SELECT count(*) FROM task_events") == 1


@pytest.mark.parametrize("name", ["request_id", "task_id"])
async def test_another_body_under_the_same_name_is_refused(idle: Client, name: str, sql: Any) -> None:
    key = str(uuid.uuid4())
    await idle.tasks.CreateTask(request(**{name: key}))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.tasks.CreateTask(request(**{name: key}, prompt="another boat"))
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason(raised.value) == "IDEMPOTENCY_MISMATCH"
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == 1


def test_a_body_without_the_newer_fields_is_what_it_was_before_them() -> None:
    """A request sent again after an update must find the task that it made before."""
    parameters = Parameters("a boat", seed=7)
    later = ("loras", "guidance_end", "denoising_end", "initial_image")
    before = {name: value for name, value in asdict(parameters).items() if name not in later}
    assert idempotency.digest(parameters) == hashlib.sha256(json.dumps([before], sort_keys=True).encode()).digest()
    assert idempotency.digest(replace(parameters, loras=(Lora("ink"),))) != idempotency.digest(parameters)
    assert idempotency.digest(replace(parameters, guidance_end=0.0)) != idempotency.digest(parameters)
    assert idempotency.digest(replace(parameters, denoising_end=0.8)) != idempotency.digest(parameters)
    begins = [
        replace(parameters, initial_image=InitialImage(key, strength, mask))
        for key, strength, mask in [("a", None, ""), ("b", None, ""), ("a", 0.6, ""), ("a", None, "00")]
    ]
    assert len({idempotency.digest(one) for one in [parameters, *begins]}) == 5
    masked = begins[-1]
    assert masked.initial_image is not None
    bare = {name: value for name, value in asdict(masked.initial_image).items() if name != "mask_feather"}
    then = {**before, "initial_image": bare}
    assert idempotency.digest(masked) == hashlib.sha256(json.dumps([then], sort_keys=True).encode()).digest()
    borders = [replace(masked, initial_image=replace(masked.initial_image, mask_feather=n)) for n in (None, 0, 8)]
    assert len({idempotency.digest(one) for one in borders}) == 3


async def test_a_request_id_belongs_to_its_principal(idle: Client) -> None:
    ids = {(await idle.tasks.CreateTask(request("same"), metadata=[("x-principal", name)])).task.id for name in "abab"}
    assert len(ids) == 2


async def test_a_refused_create_leaves_its_request_id_free(idle: Client) -> None:
    taken = str(uuid.uuid4())
    await idle.tasks.CreateTask(request(task_id=taken))
    with pytest.raises(grpc.aio.AioRpcError):
        await idle.tasks.CreateTask(request("key", task_id=taken, prompt="other"))
    assert (await idle.tasks.CreateTask(request("key", prompt="third"))).task.parameters.prompt == "third"


async def listed_positions(idle: Client) -> list[int | None]:
    tasks = (await idle.tasks.ListTasks(t.ListTasksRequest())).tasks
    return [task.queue_position if task.HasField("queue_position") else None for task in tasks]


async def test_queue_positions_count_those_before(idle: Client) -> None:
    ids = [(await idle.create()).id for _ in range(3)]
    assert [(await idle.get(task_id)).queue_position for task_id in ids] == [0, 1, 2]
    await idle.tasks.CancelTask(t.CancelTaskRequest(task_id=ids[0]))
    assert [(await idle.get(task_id)).queue_position for task_id in ids[1:]] == [0, 1]
    assert not (await idle.get(ids[0])).HasField("queue_position")
    assert await listed_positions(idle) == [1, 0, None]


async def test_queue_positions_are_counted_up_to_a_thousand(idle: Client, sql: Any) -> None:
    await idle.create()
    columns = "max_attempts, created_by, updated_by, last_sequence, prompt, negative_prompt, seed, scheduler, model, "
    columns += "use_generation, candidate_count, request_hash"
    await sql.execute(
        f"INSERT INTO content_tasks (id, {columns}) "
        f"SELECT gen_random_uuid(), {columns} FROM content_tasks, generate_series(1, 1100)"
    )
    assert (await idle.create()).queue_position == 1000
    assert (await listed_positions(idle))[0] == 1000


async def test_unknown_ids_are_not_found(idle: Client) -> None:
    for task_id in (str(uuid.uuid4()), "", "nonsense", "\u0000", "x" * 5000):
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
