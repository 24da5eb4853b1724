"""The queue by itself: who may claim, who may write, and what the events tell."""

import asyncio
import contextlib
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from services.posts.database.database import Database, connected
from services.posts.models import Parameters, Task, TaskError, TaskImage, TaskState
from services.posts.tasks.queue import Claim, Queue
from services.posts.tasks.repository import Tasks
from tests.posts.conftest import Client

TRANSIENT = TaskError("GENERATOR_UNAVAILABLE", "gone", True)
PERMANENT = TaskError("INVALID_ARGUMENT", "bad", False)

# Which state may follow which; a new attempt of a task is a path through this.
STEPS = {
    None: {"queued"},
    "queued": {"generating", "cancelled"},
    "generating": {"queued", "awaiting_approval", "failed", "cancelled"},
    "awaiting_approval": {"approved", "rejected"},
    "failed": {"queued"},
    "cancelled": {"queued"},
    "approved": set(),
    "rejected": set(),
}


@pytest.fixture
async def database(record_url: str) -> AsyncIterator[Database]:
    async with connected(record_url, "test", size=10, wait_seconds=5) as opened:
        yield opened


@pytest.fixture
def tasks(database: Database) -> Tasks:
    return Tasks(database, max_attempts=3)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database, lease_seconds=60)


def picture(index: int = 0) -> TaskImage:
    return TaskImage(
        index=index,
        key=f"generated/{index}.png",
        url=f"http://media.test/{index}.png",
        image_source="sdxl-local",
        width=64,
        height=64,
        content_type="image/png",
        size_bytes=1,
        sha256="0" * 64,
        thumbhash="",
        seed=1,
        model="m",
        model_revision="r",
        scheduler="s",
        num_inference_steps=1,
        guidance_scale=1.0,
        batch_size=1,
        credit="",
        credit_url="",
    )


async def make(tasks: Tasks, **parameters: Any) -> Task:
    return await tasks.create("test", "", None, Parameters(prompt="x", **parameters))


async def claimed(queue: Queue) -> Claim:
    claim = await queue.claim()
    assert claim is not None
    return claim


async def assert_histories_are_whole(sql: Any) -> None:
    """Every task's events have no gap, follow the life of a task, and end where the task is."""
    for row in await sql.fetch("SELECT id, state, last_sequence FROM content_tasks"):
        events = await sql.fetch("SELECT * FROM task_events WHERE task_id = $1 ORDER BY sequence", row["id"])
        assert [event["sequence"] for event in events] == list(range(1, row["last_sequence"] + 1))
        states = [None, *(event["state"] for event in events if event["kind"] == "state")]
        for before, after in itertools.pairwise(states):
            assert after in STEPS[before], states
        assert states[-1] == row["state"]


async def test_the_longest_waiting_is_claimed_first(tasks: Tasks, queue: Queue) -> None:
    made = [(await make(tasks)).id for _ in range(3)]
    assert [(await claimed(queue)).task.id for _ in range(3)] == made
    assert await queue.claim() is None
    assert not await queue.has_due()


async def test_no_task_is_claimed_twice(tasks: Tasks, queue: Queue) -> None:
    made = {(await make(tasks)).id for _ in range(30)}
    claims = await asyncio.gather(*(queue.claim() for _ in range(60)))
    ids = [claim.task.id for claim in claims if claim]
    assert len(ids) == 30
    assert set(ids) == made


async def test_a_claim_is_an_attempt(tasks: Tasks, queue: Queue) -> None:
    await make(tasks)
    claim = await claimed(queue)
    assert (claim.task.state, claim.task.attempt_count) == (TaskState.GENERATING, 1)
    assert await queue.beat(claim)


async def test_a_zombie_writes_nothing(tasks: Tasks, queue: Queue, database: Database, sql: Any) -> None:
    task = await make(tasks)
    zombie = await claimed(queue)
    await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
    assert await queue.sweep(0.0, 0.0) == 1
    owner = await claimed(queue)
    before = await tasks.get(task.id)

    assert not await queue.beat(zombie)
    assert not await queue.add_image(zombie, picture())
    assert not await queue.finish(zombie)
    assert not await queue.give_back(zombie)
    assert not await queue.fail_attempt(zombie, PERMANENT, 0.0)
    assert await tasks.get(task.id) == before

    assert await queue.add_image(owner, picture())
    assert await queue.finish(owner)
    assert (await tasks.get(task.id)).state is TaskState.AWAITING_APPROVAL
    assert not await queue.finish(owner)
    await assert_histories_are_whole(sql)


async def test_a_task_is_not_done_before_all_its_images_are_recorded(tasks: Tasks, queue: Queue) -> None:
    await make(tasks, candidate_count=2)
    claim = await claimed(queue)
    assert await queue.add_image(claim, picture(1))
    assert not await queue.finish(claim)
    assert await queue.add_image(claim, picture(0))
    assert await queue.finish(claim)


async def test_an_image_is_recorded_once(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    claim = await claimed(queue)
    assert await queue.add_image(claim, picture())
    assert not await queue.add_image(claim, picture())  # as after a commit whose answer was lost
    assert await queue.beat(claim)
    assert len((await tasks.get(task.id)).images) == 1
    await assert_histories_are_whole(sql)


async def test_a_living_lease_is_not_swept(tasks: Tasks, queue: Queue) -> None:
    await make(tasks)
    await claimed(queue)
    assert await queue.sweep(0.0, 0.0) == 0


async def test_attempts_are_spent_by_lost_workers(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    for number in range(1, 4):
        assert (await claimed(queue)).task.attempt_count == number
        await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
        assert await queue.sweep(0.0, 0.0) == 1
    task = await tasks.get(task.id)
    assert task.state is TaskState.FAILED
    assert task.error == TaskError("WORKER_LOST", "the process that worked on it was lost", False)
    await assert_histories_are_whole(sql)


async def test_two_sweepers_take_a_task_back_once(tasks: Tasks, queue: Queue, sql: Any) -> None:
    for _ in range(10):
        await make(tasks)
        await claimed(queue)
    await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
    assert sum(await asyncio.gather(*(queue.sweep(1.0, 1.0) for _ in range(5)))) == 10
    await assert_histories_are_whole(sql)


async def test_a_failed_attempt_waits_before_the_next(tasks: Tasks, queue: Queue) -> None:
    task = await make(tasks)
    assert await queue.fail_attempt(await claimed(queue), TRANSIENT, 3600.0)
    task = await tasks.get(task.id)
    assert (task.state, task.error) == (TaskState.QUEUED, TRANSIENT)
    assert await queue.claim() is None


async def test_what_is_given_back_does_not_count_and_keeps_its_place(tasks: Tasks, queue: Queue) -> None:
    first, _ = await make(tasks), await make(tasks)
    assert await queue.give_back(await claimed(queue))
    claim = await claimed(queue)
    assert (claim.task.id, claim.task.attempt_count) == (first.id, 1)


async def test_a_retry_gives_fresh_attempts_and_keeps_images(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks, candidate_count=2)
    claim = await claimed(queue)
    await queue.add_image(claim, picture(1))
    await queue.fail_attempt(claim, PERMANENT, 0.0)
    failed = await tasks.get(task.id)
    assert (failed.state, failed.error) == (TaskState.FAILED, PERMANENT)
    retried = await tasks.retry("ada", "", task.id)
    assert (retried.state, retried.error, retried.updated_by) == (TaskState.QUEUED, None, "ada")
    assert retried.max_attempts - retried.attempt_count == 3
    assert [image.index for image in (await claimed(queue)).task.images] == [1]
    await assert_histories_are_whole(sql)


async def test_cancel_takes_the_lease(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    claim = await claimed(queue)
    assert (await tasks.cancel("ada", task.id)).state is TaskState.CANCELLED
    assert (await tasks.cancel("bo", task.id)).updated_by == "ada"
    assert not await queue.beat(claim)
    assert not await queue.add_image(claim, picture())
    await assert_histories_are_whole(sql)


async def test_cancel_against_complete_two_hundred_times(tasks: Tasks, queue: Queue, sql: Any) -> None:
    chance = random.Random(7)
    ended = {TaskState.CANCELLED: 0, TaskState.AWAITING_APPROVAL: 0}

    async def complete(claim: Claim) -> bool:
        await asyncio.sleep(chance.uniform(0, 0.004))
        return await queue.add_image(claim, picture()) and await queue.finish(claim)

    async def cancel(task: Task) -> bool:
        await asyncio.sleep(chance.uniform(0, 0.006))
        try:
            await tasks.cancel("ada", task.id)
        except errors.FailedPrecondition:
            return False
        return True

    for _ in range(200):
        task = await make(tasks)
        completed, cancelled = await asyncio.gather(complete(await claimed(queue)), cancel(task))
        assert completed is not cancelled
        state = (await tasks.get(task.id)).state
        assert state is (TaskState.CANCELLED if cancelled else TaskState.AWAITING_APPROVAL)
        ended[state] += 1
    assert min(ended.values()) > 0, ended
    await assert_histories_are_whole(sql)


async def test_random_lives_are_lived_by_the_rules(tasks: Tasks, queue: Queue, sql: Any) -> None:
    """Many hands do whatever they like to a few tasks at once: each history is a path of the life of a task."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    ids = [(await make(tasks)).id for _ in range(5)]
    actions: list[Callable[[uuid.UUID, Claim], Awaitable[object]]] = [
        lambda task_id, claim: queue.add_image(claim, picture()),
        lambda task_id, claim: queue.finish(claim),
        lambda task_id, claim: queue.fail_attempt(claim, chance.choice([TRANSIENT, PERMANENT]), 0.0),
        lambda task_id, claim: queue.give_back(claim),
        lambda task_id, claim: queue.sweep(0.0, 0.0),
        lambda task_id, claim: tasks.cancel("x", task_id),
        lambda task_id, claim: tasks.retry("x", "", task_id),
    ]

    async def hand() -> None:
        claims = [Claim(await tasks.get(ids[0]), uuid.uuid4())]
        for _ in range(60):
            if chance.random() < 0.3:
                claims += [claim for claim in [await queue.claim()] if claim]
            with contextlib.suppress(errors.FailedPrecondition):
                await chance.choice(actions)(chance.choice(ids), claims[-1])

    await asyncio.gather(*(hand() for _ in range(6)))
    assert await sql.fetchval("SELECT count(*) FROM task_events") > 50
    await assert_histories_are_whole(sql)


async def test_a_key_is_remembered_and_forgotten(queue: Queue, tasks: Tasks, sql: Any) -> None:
    first = await tasks.create("p", "key", None, Parameters(prompt="x"))
    await queue.forget_keys(days=30)
    assert (await tasks.create("p", "key", None, Parameters(prompt="x"))).id == first.id
    await sql.execute("UPDATE idempotency_keys SET create_time = now() - interval '31 days'")
    assert await queue.forget_keys(days=30) == 1
    assert (await tasks.create("p", "key", None, Parameters(prompt="x"))).id != first.id


async def test_retry_of_a_queued_task_is_refused(idle: Client) -> None:
    task = await idle.create()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_task_is_not_found(tasks: Tasks) -> None:
    with pytest.raises(errors.NotFound):
        await tasks.get(uuid.uuid4())
