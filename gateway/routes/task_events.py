"""The events of a task: following them across failures of the posts service, and as server-sent events."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine
from typing import Annotated, Any

import grpc
from fastapi import APIRouter, Header, Query, Request
from frontispiece.posts.v1 import tasks_pb2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.context import AppContext
from gateway.errors import Problem
from gateway.routes.dependencies import EDITOR, Context, TaskId
from gateway.routes.problems import problems
from gateway.schemas.events import STREAM, encode
from gateway.schemas.tasks import is_terminal
from rpc import context
from rpc.backoff import Backoff, Retries

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/tasks", tags=["tasks"], dependencies=EDITOR)

# Longer than any generation. When it ends, the call is repeated.
_CALL_SECONDS = 3600.0
_BACKOFF = Backoff(base_seconds=0.1, max_seconds=2.0, jitter="equal")
_STABLE_SECONDS = 5.0

# The service went away or is being replaced; the next call continues after the last sequence. A broken connection shows
# as UNKNOWN or INTERNAL too.
_RESUMABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


async def follow(
    app: AppContext, task_id: str, after: int, *, stop: Awaitable[Any], tick_seconds: float
) -> AsyncGenerator[tasks_pb2.TaskEvent | None, None]:
    """The events of a task after sequence `after`, up to the terminal one.

    Each stored event comes once, in order. None comes after each `tick_seconds` without an event. Ends early when
    `stop` is done. Raises AioRpcError for an error that a retry does not mend, such as NOT_FOUND.
    """
    stopped = asyncio.ensure_future(stop)
    retries = Retries(_BACKOFF)
    while not stopped.done():
        began = time.monotonic()
        silent = True
        try:
            async with contextlib.aclosing(_watch(app, task_id, after, stopped, tick_seconds)) as events:
                async for event in events:
                    yield event
                    if event is None:
                        continue
                    if event.terminal:
                        return
                    silent = False
                    after = max(after, event.sequence)
            if silent and not stopped.done() and await _has_ended(app, task_id, after):
                return
        except grpc.aio.AioRpcError as error:
            if error.code() not in _RESUMABLE:
                raise
            log.info("watch broken off", extra={"task_id": task_id, "after": after, "code": error.code().name})
        if stopped.done():
            return
        app.metrics.resumed.inc()
        if time.monotonic() - began > _STABLE_SECONDS:
            retries.reset()
        await asyncio.wait({stopped}, timeout=retries.next_delay())


async def _has_ended(app: AppContext, task_id: str, after: int) -> bool:
    """Whether the task is in a terminal state and has no stored event after `after`."""
    task = (await app.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))).task
    return is_terminal(task) and task.last_sequence <= after


async def _watch(
    app: AppContext, task_id: str, after: int, stopped: asyncio.Future[Any], tick_seconds: float
) -> AsyncGenerator[tasks_pb2.TaskEvent | None, None]:
    """The events of one call of WatchTask, without stored events that come twice.

    A pending read is never cancelled by a timeout: a cancelled read of a stream leaks (grpc#43360).
    """
    request = tasks_pb2.WatchTaskRequest(task_id=task_id, after_sequence=after)
    call = app.clients.watches.WatchTask(request, timeout=_CALL_SECONDS)
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
            event = response.event
            if not event.sequence or event.sequence > after:
                after = max(after, event.sequence)
                yield event
    finally:
        reading.add_done_callback(_ignore_result)
        call.cancel()


def _ignore_result(reading: asyncio.Future[Any]) -> None:
    if not reading.cancelled():
        reading.exception()


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of `waits` is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",  # a proxy that compresses would buffer the events
    "x-accel-buffering": "no",  # nginx would buffer the events
}

_LAST_SEQUENCE = 2**63 - 1
"""The largest sequence that the database can store."""


@router.get(
    "/{task_id}/events",
    response_class=Response,
    responses={
        **problems(401, 404, 422, 429),
        200: {"description": "The events.", "content": {"text/event-stream": {"schema": STREAM}}},
        204: {"description": "The task is at rest: no event follows until an editor decides or retries."},
    },
    summary="Follow a task",
)
async def task_events(
    app: Context,
    request: Request,
    task_id: TaskId,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=_LAST_SEQUENCE, alias="Last-Event-ID", description="Only stored events after this sequence."),
    ] = None,
    after: Annotated[
        int, Query(ge=0, le=_LAST_SEQUENCE, description="The same, for clients that cannot send the header.")
    ] = 0,
) -> Response:
    """Server-sent events: first the stored events after `Last-Event-ID`, then new ones.

    Stored events (`queued`, `generating`, `awaiting_approval`, `failed`, `cancelled`, `approved`, `rejected`, `image`)
    have an `id`, their sequence. `progress` and `preview` are not stored and have none. `data` is JSON with `task_id`,
    `sequence`, `time`, `terminal` and the fields of the event. The stream ends after the event with `terminal: true`.
    Comments keep a silent connection alive. A client that asks again after that event gets 204, which ends the
    reconnecting of an EventSource.
    """
    after = after if last_event_id is None else last_event_id
    task = (await app.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))).task
    if is_terminal(task) and task.last_sequence <= after:
        return Response(status_code=204)
    if request.method == "HEAD":
        return Response(b"", headers=_HEADERS)
    if app.open_event_streams >= app.settings.max_event_streams:
        raise Problem(429, "TOO_MANY_STREAMS", "too many event streams are open")
    return EventStream(app, task.id, after)


router.add_api_route("/{task_id}/events", task_events, methods=["HEAD"], include_in_schema=False)


class EventStream(Response):
    """A response that lasts until the task is terminal, the client disconnects or the gateway stops."""

    def __init__(self, app: AppContext, task_id: str, after: int) -> None:
        """Stream the events of a task after sequence `after`."""
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._app = app
        self._task_id = task_id
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        context.set_remaining_seconds(None)
        over = asyncio.ensure_future(first_of(self._app.stopping.wait(), _disconnect(receive)))
        self._app.open_event_streams += 1
        try:
            with self._app.metrics.event_streams.track_inprogress():
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async with contextlib.aclosing(self._frames(over)) as frames:
                    async for frame in frames:
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._app.open_event_streams -= 1
            over.cancel()

    async def _frames(self, over: "asyncio.Future[None]") -> AsyncGenerator[bytes, None]:
        yield b"retry: 1000\n\n"
        tick = self._app.settings.keepalive_seconds
        events = follow(self._app, self._task_id, self._after, stop=over, tick_seconds=tick)
        async with contextlib.aclosing(events):
            async for event in events:
                yield b": keep-alive\n\n" if event is None else _frame(event)


def _frame(event: tasks_pb2.TaskEvent) -> bytes:
    """An event on the wire. Only stored events have an id, so that a client resumes after the last of them."""
    name, data = encode(event)
    identity = f"id: {event.sequence}\n" if event.sequence else ""
    return f"{identity}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
