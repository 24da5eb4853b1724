"""WatchTask: every stored event once and in order, however often the watcher disconnects."""

import asyncio
import random
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import tasks_pb2 as t

from services.posts.tasks.events import _Attempt
from services.posts.tasks.notify import EphemeralEvent
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import ScriptedGenerator


async def test_watcher_that_reconnects_misses_and_repeats_nothing(posts: Client, generator: ScriptedGenerator) -> None:
    """Whatever the moments of disconnection: what was seen is what is stored."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    generator.step_seconds = 0.01
    for _ in range(12):
        generator.script = [None, lambda metadata, data: (metadata, b"x")] * 2
        task = await posts.create(candidate_count=2)
        seen: list[Any] = []
        terminal = 0
        while not terminal:
            after = seen[-1].sequence if seen else 0
            call = posts.tasks.WatchTask(t.WatchTaskRequest(task_id=task.id, after_sequence=after), timeout=30)
            patience = chance.randrange(8)  # events, then the connection breaks
            async for response in call:
                if response.event.sequence:
                    seen.append(response.event)
                terminal += response.event.terminal
                patience -= 1
                if patience < 0 and not terminal:
                    call.cancel()
                    break
        everything = [event for event in await posts.events(task.id) if event.sequence]
        assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
        assert seen == everything
        assert terminal == 1


async def test_watchers_of_two_processes_see_the_same_events_and_previews(
    start_posts: StartPosts, posts: Client, generator: ScriptedGenerator
) -> None:
    generator.gate = gate = asyncio.Event()
    generator.preview = b"\xff\xd8\xff" + bytes(range(256)) * 50  # three notifications long

    async def see(client: Client, task_id: str, kinds: set[str]) -> list[Any]:
        """All events; `kinds` tells meanwhile which there were."""
        call = client.tasks.WatchTask(t.WatchTaskRequest(task_id=task_id), timeout=60)
        events = []
        async for response in call:
            events.append(response.event)
            kinds.add(response.event.WhichOneof("kind"))
        return events

    async with start_posts(worker=False) as other:
        task = await other.create(candidate_count=2)
        kinds_here, kinds_there = set[str](), set[str]()
        watches = asyncio.gather(see(posts, task.id, kinds_here), see(other, task.id, kinds_there))
        while not {"progress", "preview"} <= kinds_here & kinds_there:
            await asyncio.sleep(0.02)
        gate.set()
        here, there = await watches
    for events in (here, there):
        assert {bytes(event.preview.data) for event in events if event.HasField("preview")} == {generator.preview}
    assert [event for event in here if event.sequence] == [event for event in there if event.sequence]


async def test_progress_never_falls_and_counts_every_step(posts: Client, generator: ScriptedGenerator) -> None:
    generator.step_seconds = 0.08
    generator.steps = 8
    events = await posts.events((await posts.create(candidate_count=2)).id)
    sent = [event.progress for event in events if event.WhichOneof("kind") == "progress"]
    fractions = [progress.step / progress.total_steps for progress in sent if progress.total_steps]
    assert len(fractions) >= 2
    assert fractions == sorted(fractions)
    assert max(fractions) <= 1
    assert all(event.sequence == 0 and not event.terminal for event in events if event.WhichOneof("kind") == "progress")
    assert all(progress.total_steps == 16 for progress in sent if progress.total_steps)


def test_progress_of_another_attempt_is_not_sent() -> None:
    import uuid

    def at(attempt: int, step: int, total: int = 10) -> EphemeralEvent:
        return EphemeralEvent(uuid.uuid4(), attempt, t.TaskProgress(step=step, total_steps=total))

    seen = _Attempt(2)
    assert seen.admits(at(2, 0, 0))
    assert seen.admits(at(2, 5))
    assert not seen.admits(at(2, 4))
    assert not seen.admits(at(2, 0, 0))
    assert not seen.admits(at(1, 9))
    assert seen.admits(at(2, 5))
    assert not _Attempt(None).admits(at(1, 1))


async def test_listener_reconnects_and_misses_nothing(start_posts: StartPosts, sql: Any) -> None:
    """The listener's connection is ended by the server, again and again; events arrive within 3 s all the same."""
    async with start_posts(worker=False, generator_targets=(), poll_seconds=1.0) as posts:
        task = await posts.create()
        call = posts.tasks.WatchTask(t.WatchTaskRequest(task_id=task.id), timeout=30)
        assert (await call.read()).event.sequence == 1
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'posts-listener'"
        assert await sql.fetchval(kill)
        await posts.tasks.CancelTask(t.CancelTaskRequest(task_id=task.id))
        response = await asyncio.wait_for(call.read(), 3.0)
        assert response.event.state_change.state == t.TASK_STATE_CANCELLED
        assert response.event.terminal
        # And it listens again: no poll is as quick as this watcher's next event.
        while not await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'posts-listener' AND query LIKE 'LISTEN%'"
        ):
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("own_database")
async def test_poll_delivers_events_without_notification(start_posts: StartPosts, sql: Any) -> None:
    await sql.execute("ALTER TABLE task_events DISABLE TRIGGER task_events_notify")
    async with start_posts() as posts:
        task = await posts.create()
        events = await asyncio.wait_for(posts.events(task.id), 10.0)
    assert [event.sequence for event in events if event.sequence] == [1, 2, 3, 4]


async def test_slow_reader_loses_progress_but_no_event(posts: Client, generator: ScriptedGenerator) -> None:
    generator.step_seconds = 0.02
    generator.preview = b"\xff\xd8\xff" + b"x" * 30_000
    task = await posts.create()
    call = posts.tasks.WatchTask(t.WatchTaskRequest(task_id=task.id), timeout=60)
    sequences = []
    async for response in call:
        if response.event.sequence:
            sequences.append(response.event.sequence)
        await asyncio.sleep(0.3)
    assert sequences == [1, 2, 3, 4]


async def test_stream_of_finished_task_ends(posts: Client) -> None:
    task = await posts.done()
    events = await posts.events(task.id)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert [event.terminal for event in events] == [False, False, False, True]
    assert [event.sequence for event in await posts.events(task.id, after=2)] == [3, 4]
    assert await posts.events(task.id, after=4) == []
    assert await posts.events(task.id, after=2**63) == []
    await posts.approve(task.id)
    events = await posts.events(task.id)
    assert [event.terminal for event in events] == [False, False, False, False, True]
    assert [event.sequence for event in await posts.events(task.id, after=4)] == [5]


async def test_stream_ends_when_the_process_stops(idle: Client) -> None:
    task = await idle.create()
    call = idle.tasks.WatchTask(t.WatchTaskRequest(task_id=task.id), timeout=30)
    await call.read()
    idle.app.events.close()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watcher_that_disconnects_is_removed(idle: Client) -> None:
    task = await idle.create()
    for _ in range(20):
        call = idle.tasks.WatchTask(t.WatchTaskRequest(task_id=task.id), timeout=30)
        await call.read()
        call.cancel()
    while idle.app.events.reader_count:
        await asyncio.sleep(0.02)
