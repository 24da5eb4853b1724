"""Following a task: one unbroken sequence of events, however often the service behind it breaks off."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from typing import Any

import grpc
from frontispiece.posts.v1 import tasks_pb2

from gateway.clients import Clients
from gateway.messages.tasks import RESTING, STATES
from gateway.metrics import GatewayMetrics

log = logging.getLogger(__name__)

# Longer than any one generation; when it ends the watch is taken up again.
_CALL_SECONDS = 3600.0
_MIN_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 2.0

# The service went away or is being replaced: another one will go on from the last sequence. A cut connection shows as
# UNKNOWN or INTERNAL too.
_BROKEN_OFF = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class TaskWatcher:
    """Follows tasks until each comes to rest."""

    def __init__(self, clients: Clients, metrics: GatewayMetrics) -> None:
        """Follow tasks of the posts service behind `clients`."""
        self._tasks = clients.tasks
        self._metrics = metrics

    async def follow(
        self, task_id: str, after: int, *, stop: Awaitable[Any], tick_seconds: float
    ) -> AsyncGenerator[tasks_pb2.TaskEvent | None, None]:
        """Events of a task after sequence `after`, up to the terminal one.

        Stored events come each once and in order. None comes after each `tick_seconds` of silence. Ends early when
        `stop` is done. Raises AioRpcError for an error that trying again will not mend, such as NOT_FOUND.
        """
        stopped = asyncio.ensure_future(stop)
        pause = _MIN_PAUSE_SECONDS
        while not stopped.done():
            began = time.monotonic()
            silent = True
            try:
                async with contextlib.aclosing(self._watch(task_id, after, stopped, tick_seconds)) as events:
                    async for event in events:
                        silent = silent and event is None
                        if event is not None and event.sequence:
                            if event.sequence <= after:
                                continue
                            after = event.sequence
                        yield event
                        if event is not None and event.terminal:
                            return
                if silent and await self._rests(task_id, after):
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() not in _BROKEN_OFF:
                    raise
                log.info("watch broke off", extra={"task_id": task_id, "after": after, "code": error.code().name})
            if stopped.done():
                return
            self._metrics.resumed.inc()
            pause = _MIN_PAUSE_SECONDS if time.monotonic() - began > 5 else min(_MAX_PAUSE_SECONDS, pause * 2)
            await asyncio.wait({stopped}, timeout=pause * random.uniform(0.5, 1.0))

    async def _rests(self, task_id: str, after: int) -> bool:
        """Whether the task has come to rest and has no stored event after `after`."""
        task = (await self._tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))).task
        return STATES[task.state] in RESTING and task.last_sequence <= after

    async def _watch(
        self, task_id: str, after: int, stopped: asyncio.Future[Any], tick_seconds: float
    ) -> AsyncGenerator[tasks_pb2.TaskEvent | None, None]:
        """The events of one call.

        Reads are waited for, never cancelled by a timeout: a cancelled read of a stream leaks (grpc#43360).
        """
        request = tasks_pb2.WatchTaskRequest(task_id=task_id, after_sequence=after)
        call = self._tasks.WatchTask(request, timeout=_CALL_SECONDS)
        reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
        try:
            while True:
                await asyncio.wait({reading, stopped}, timeout=tick_seconds, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return
                if not reading.done():
                    yield None
                    continue
                response = reading.result()
                if response is grpc.aio.EOF:
                    return
                reading = asyncio.ensure_future(call.read())
                yield response.event
        finally:
            reading.add_done_callback(_forget)
            call.cancel()


def _forget(reading: asyncio.Future[Any]) -> None:
    if not reading.cancelled():
        reading.exception()


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
