"""The queue: which worker may claim, which may write, and the events that follow."""

import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from services.posts.database.database import Database
from services.posts.tasks.queue import Queue
from services.posts.tasks.repository import Tasks
from services.posts.worker.maintenance import expire_keys
from tests.posts.conftest import Client
from tests.posts.tasks.conftest import (
    PERMANENT,
    TRANSIENT,
    assert_histories_are_valid,
    claimed,
    id_of,
    image,
    make,
    new,
)


async def test_task_that_waited_longest_is_claimed_first(tasks: Tasks, queue: Queue) -> None:
    made = [(await make(tasks)).id for _ in range(3)]
    assert [(await claimed(queue)).task.id for _ in range(3)] == made
    assert await queue.claim() is None
    assert not await queue.ready()


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
