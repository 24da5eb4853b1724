"""Event streams in tests: scripted lives of a task, and reading server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from frontispiece.posts.v1 import tasks_pb2

from tests.gateway.scripted import TASK_ID, Scripted, event, task, task_image

PATH = f"/api/tasks/{TASK_ID}/events"
QUEUED, GENERATING = tasks_pb2.TASK_STATE_QUEUED, tasks_pb2.TASK_STATE_GENERATING
DONE = tasks_pb2.TASK_STATE_AWAITING_APPROVAL
LIFE = [
    event(1, QUEUED),
    event(2, GENERATING),
    event(3, image=task_image(index=0)),
    event(4, DONE, terminal=True),
]


async def frames(client: httpx2.AsyncClient, path: str, **headers: str) -> AsyncIterator[dict[str, str]]:
    """The blocks of an event stream; comments have the key "". None when the task is at rest."""
    async with client.stream("GET", path, headers=headers) as response:
        if response.status_code == 204:
            return
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        block: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line:
                name, _, value = line.partition(":")
                block[name] = value.removeprefix(" ")
            elif block:
                yield block
                block = {}


async def events(client: httpx2.AsyncClient, path: str, **headers: str) -> list[dict[str, str]]:
    return [block async for block in frames(client, path, **headers) if "data" in block]


def replay(front: Scripted, life: list[Any] = LIFE) -> None:
    """Posts that answers what is stored after the sequence asked for."""

    async def watch(request: Any) -> Any:
        for one in life:
            if one.event.sequence == 0 or one.event.sequence > request.after_sequence:
                yield one

    front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=task(last_sequence=len(life))))
    front.scripts.on("WatchTask", watch)


def forever(front: Scripted) -> asyncio.Event:
    """A task at which nothing happens; the event is set when its watch ends."""
    ended = asyncio.Event()

    async def watch(request: Any) -> Any:
        try:
            yield LIFE[0]
            await asyncio.Event().wait()
        finally:
            ended.set()

    replay(front)
    front.scripts.on("WatchTask", watch)
    return ended


async def until(condition: Any, seconds: float = 20) -> None:
    """Wait until something that has no event of its own is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never became so"
        await asyncio.sleep(0.02)
