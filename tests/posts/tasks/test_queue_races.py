"""Concurrent use of the queue: each task has one owner, and its history stays valid."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors
from services.posts.tasks.queue import Claim, Queue
from services.posts.tasks.repository import Tasks
from tests.posts.tasks.conftest import (
    PERMANENT,
    TRANSIENT,
    assert_histories_are_valid,
    claimed,
    id_of,
    image,
    make,
)


async def test_no_task_is_claimed_twice(tasks: Tasks, queue: Queue) -> None:
    made = {(await make(tasks)).id for _ in range(30)}
    claims = await asyncio.gather(*(queue.claim() for _ in range(60)))
    ids = [claim.task.id for claim in claims if claim]
    assert len(ids) == 30
    assert set(ids) == made


async def test_concurrent_reapers_end_each_lease_once(tasks: Tasks, queue: Queue, sql: Any) -> None:
    for _ in range(10):
        await make(tasks)
        await claimed(queue)
    await sql.execute("UPDATE content_tasks SET lease_until = now() - interval '1 second'")
    assert sum(await asyncio.gather(*(queue.reap(1.0, 1.0) for _ in range(5)))) == 10
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
