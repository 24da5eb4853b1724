"""The queue: which worker may claim, which may write, and the events that follow."""

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
from frontispiece.types.v1 import generation_pb2, image_pb2

from rpc import errors
from services.posts.database.database import Database, connected
from services.posts.tasks.queue import Claim, Queue
from services.posts.tasks.repository import Tasks
from services.posts.worker.maintenance import expire_keys
from tests.posts.conftest import Client

TRANSIENT = t.TaskError(reason="GENERATOR_UNAVAILABLE", message="gone", will_retry=True)
PERMANENT = t.TaskError(reason="INVALID_ARGUMENT", message="bad", will_retry=False)

# Which state may follow which. The history of a task is a path through this graph.
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


def image(index: int = 0) -> t.TaskImage:
    file = image_pb2.ImageFile(content_type="image/png", size_bytes=1, sha256="0" * 64, width=64, height=64)
    return t.TaskImage(
        index=index,
        image=image_pb2.StoredImage(key=f"generated/{index}.png", url=f"http://media.test/{index}.png", file=file),
        image_source="sdxl-local",
        generation=generation_pb2.Generation(batch_size=1),
    )


def new(request_id: str = "", candidate_count: int = 1) -> t.CreateTaskRequest:
    parameters = generation_pb2.GenerationParameters(prompt="x")
    return t.CreateTaskRequest(request_id=request_id, parameters=parameters, candidate_count=candidate_count)


async def make(tasks: Tasks, candidate_count: int = 1) -> t.Task:
    return await tasks.create("test", new(candidate_count=candidate_count))


def id_of(task: t.Task) -> uuid.UUID:
    return uuid.UUID(task.id)


async def claimed(queue: Queue) -> Claim:
    claim = await queue.claim()
    assert claim is not None
    return claim


async def assert_histories_are_valid(sql: Any) -> None:
    """The events of every task have no gap, are a path through STEPS, and end in the state of the task."""
    for row in await sql.fetch("SELECT id, state, last_sequence FROM content_tasks"):
        events = await sql.fetch("SELECT * FROM task_events WHERE task_id = $1 ORDER BY sequence", row["id"])
        assert [event["sequence"] for event in events] == list(range(1, row["last_sequence"] + 1))
        states = [None, *(event["state"] for event in events if event["kind"] == "state")]
        for before, after in itertools.pairwise(states):
            assert after in STEPS[before], states
        assert states[-1] == row["state"]


async def test_task_that_waited_longest_is_claimed_first(tasks: Tasks, queue: Queue) -> None:
    made = [(await make(tasks)).id for _ in range(3)]
    assert [(await claimed(queue)).task.id for _ in range(3)] == made
    assert await queue.claim() is None
    assert not await queue.ready()


async def test_no_task_is_claimed_twice(tasks: Tasks, queue: Queue) -> None:
    made = {(await make(tasks)).id for _ in range(30)}
    claims = await asyncio.gather(*(queue.claim() for _ in range(60)))
    ids = [claim.task.id for claim in claims if claim]
    assert len(ids) == 30
    assert set(ids) == made


async def test_claim_counts_as_attempt(tasks: Tasks, queue: Queue) -> None:
    await make(tasks)
    claim = await claimed(queue)
    assert (claim.task.state, claim.task.attempt_count) == (t.TASK_STATE_GENERATING, 1)
    assert await queue.heartbeat(claim)


async def test_worker_that_lost_its_lease_writes_nothing(
    tasks: Tasks, queue: Queue, database: Database, sql: Any
) -> None:
    task = await make(tasks)
    stale = await claimed(queue)
    await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
    assert await queue.reap(0.0, 0.0) == 1
    owner = await claimed(queue)
    before = await tasks.get(id_of(task))

    assert not await queue.heartbeat(stale)
    assert not await queue.add_image(stale, image())
    assert not await queue.finish(stale)
    assert not await queue.release(stale)
    assert not await queue.fail_attempt(stale, PERMANENT, 0.0)
    assert await tasks.get(id_of(task)) == before

    assert await queue.add_image(owner, image())
    assert await queue.finish(owner)
    assert (await tasks.get(id_of(task))).state == t.TASK_STATE_AWAITING_APPROVAL
    assert not await queue.finish(owner)
    await assert_histories_are_valid(sql)


async def test_task_is_not_finished_before_all_images_are_added(tasks: Tasks, queue: Queue) -> None:
    await make(tasks, candidate_count=2)
    claim = await claimed(queue)
    assert await queue.add_image(claim, image(1))
    assert not await queue.finish(claim)
    assert await queue.add_image(claim, image(0))
    assert await queue.finish(claim)


async def test_image_is_added_once(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    claim = await claimed(queue)
    assert await queue.add_image(claim, image())
    assert not await queue.add_image(claim, image())  # as after a commit whose confirmation was lost
    assert await queue.heartbeat(claim)
    assert len((await tasks.get(id_of(task))).images) == 1
    await assert_histories_are_valid(sql)


async def test_valid_lease_is_not_reaped(tasks: Tasks, queue: Queue) -> None:
    await make(tasks)
    await claimed(queue)
    assert await queue.reap(0.0, 0.0) == 0


async def test_lost_workers_use_up_attempts(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    for number in range(1, 4):
        assert (await claimed(queue)).task.attempt_count == number
        await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
        assert await queue.reap(0.0, 0.0) == 1
    task = await tasks.get(id_of(task))
    assert task.state == t.TASK_STATE_FAILED
    assert (task.error.reason, task.error.will_retry) == ("WORKER_LOST", False)
    await assert_histories_are_valid(sql)


async def test_concurrent_reapers_end_each_lease_once(tasks: Tasks, queue: Queue, sql: Any) -> None:
    for _ in range(10):
        await make(tasks)
        await claimed(queue)
    await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
    assert sum(await asyncio.gather(*(queue.reap(1.0, 1.0) for _ in range(5)))) == 10
    await assert_histories_are_valid(sql)


async def test_failed_attempt_delays_the_next(tasks: Tasks, queue: Queue) -> None:
    task = await make(tasks)
    assert await queue.fail_attempt(await claimed(queue), TRANSIENT, 3600.0)
    task = await tasks.get(id_of(task))
    assert (task.state, task.error) == (t.TASK_STATE_QUEUED, TRANSIENT)
    assert await queue.claim() is None


async def test_released_task_keeps_its_place_and_attempt_count(tasks: Tasks, queue: Queue) -> None:
    first, _ = await make(tasks), await make(tasks)
    assert await queue.release(await claimed(queue))
    claim = await claimed(queue)
    assert (claim.task.id, claim.task.attempt_count) == (first.id, 1)


async def test_retry_resets_attempts_and_keeps_images(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks, candidate_count=2)
    claim = await claimed(queue)
    await queue.add_image(claim, image(1))
    await queue.fail_attempt(claim, PERMANENT, 0.0)
    failed = await tasks.get(id_of(task))
    assert (failed.state, failed.error) == (t.TASK_STATE_FAILED, PERMANENT)
    retried = await tasks.retry("ada", t.RetryTaskRequest(), id_of(task))
    assert (retried.state, retried.HasField("error"), retried.updated_by) == (t.TASK_STATE_QUEUED, False, "ada")
    assert retried.max_attempts - retried.attempt_count == 3
    assert [image.index for image in (await claimed(queue)).task.images] == [1]
    await assert_histories_are_valid(sql)


async def test_cancel_ends_the_lease(tasks: Tasks, queue: Queue, sql: Any) -> None:
    task = await make(tasks)
    claim = await claimed(queue)
    assert (await tasks.cancel("ada", id_of(task))).state == t.TASK_STATE_CANCELLED
    assert (await tasks.cancel("bo", id_of(task))).updated_by == "ada"
    assert not await queue.heartbeat(claim)
    assert not await queue.add_image(claim, image())
    await assert_histories_are_valid(sql)


async def test_cancel_races_with_finish(tasks: Tasks, queue: Queue, sql: Any) -> None:
    chance = random.Random(7)
    ended = {t.TASK_STATE_CANCELLED: 0, t.TASK_STATE_AWAITING_APPROVAL: 0}

    async def complete(claim: Claim) -> bool:
        await asyncio.sleep(chance.uniform(0, 0.004))
        return await queue.add_image(claim, image()) and await queue.finish(claim)

    async def cancel(task: t.Task) -> bool:
        await asyncio.sleep(chance.uniform(0, 0.006))
        try:
            await tasks.cancel("ada", id_of(task))
        except errors.FailedPrecondition:
            return False
        return True

    for _ in range(200):
        task = await make(tasks)
        completed, cancelled = await asyncio.gather(complete(await claimed(queue)), cancel(task))
        assert completed is not cancelled
        state = (await tasks.get(id_of(task))).state
        assert state == (t.TASK_STATE_CANCELLED if cancelled else t.TASK_STATE_AWAITING_APPROVAL)
        ended[state] += 1
    assert min(ended.values()) > 0, ended
    await assert_histories_are_valid(sql)


async def test_random_concurrent_actions_keep_histories_valid(tasks: Tasks, queue: Queue, sql: Any) -> None:
    """Six clients do random things to a few tasks: each history is a path through STEPS."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    ids = [id_of(await make(tasks)) for _ in range(5)]
    actions: list[Callable[[uuid.UUID, Claim], Awaitable[object]]] = [
        lambda task_id, claim: queue.add_image(claim, image()),
        lambda task_id, claim: queue.finish(claim),
        lambda task_id, claim: queue.fail_attempt(claim, chance.choice([TRANSIENT, PERMANENT]), 0.0),
        lambda task_id, claim: queue.release(claim),
        lambda task_id, claim: queue.reap(0.0, 0.0),
        lambda task_id, claim: tasks.cancel("x", task_id),
        lambda task_id, claim: tasks.retry("x", t.RetryTaskRequest(), task_id),
    ]

    async def hand() -> None:
        claims = [Claim(await tasks.get(ids[0]), uuid.uuid4())]
        for _ in range(60):
            if chance.random() < 0.3:
                claims += [claim for claim in [await queue.claim()] if claim]
            with contextlib.suppress(errors.FailedPrecondition):
                await chance.choice(actions)(chance.choice(ids), claims[-1])

    while await sql.fetchval("SELECT count(*) FROM task_events") <= 50:
        await asyncio.gather(*(hand() for _ in range(6)))
    await assert_histories_are_valid(sql)


async def test_request_id_is_remembered_until_it_expires(database: Database, tasks: Tasks, sql: Any) -> None:
    first = await tasks.create("p", new("key"))
    await expire_keys(database, days=30)
    assert (await tasks.create("p", new("key"))).id == first.id
    await sql.execute("UPDATE idempotency_keys SET create_time = now() - interval '31 days'")
    assert await expire_keys(database, days=30) == 1
    assert (await tasks.create("p", new("key"))).id != first.id


async def test_retry_of_queued_task_is_refused(idle: Client) -> None:
    task = await idle.create()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.tasks.RetryTask(t.RetryTaskRequest(task_id=task.id))
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_unknown_task_is_not_found(tasks: Tasks) -> None:
    with pytest.raises(errors.NotFound):
        await tasks.get(uuid.uuid4())
