"""A task's events as server-sent events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

from frontispiece.posts.v1 import tasks_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.auth import require_editor
from gateway.errors import FieldError, Problem
from gateway.messages import tasks as messages
from gateway.routes.plain import PlainRoute
from gateway.routes.responses import known_uuid
from gateway.state import Gateway, gateway
from gateway.watching import first_of
from rpc import context

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold events back
}
_MAX_SEQUENCE = 2**63 - 1


async def events(request: Request) -> Response:
    """Stored events after `Last-Event-ID` (or `?after=`), then what happens, up to the terminal event.

    Empty when the task rests and all its events were seen.
    """
    require_editor()
    here = gateway(request)
    task_id = known_uuid(request.path_params["task_id"], "task")
    after = _after(request)
    task = (await here.clients.tasks.GetTask(tasks_pb2.GetTaskRequest(task_id=task_id))).task
    rests = messages.STATES[task.state] in messages.RESTING and after >= task.last_sequence
    if rests or request.method == "HEAD":
        return Response(b"", headers=_HEADERS)
    if here.open_event_streams >= here.settings.max_event_streams:
        raise Problem(429, "TOO_MANY_STREAMS", "too many event streams are open")
    return EventStream(here, task_id, after)


def _after(request: Request) -> int:
    name, value = "Last-Event-ID", request.headers.get("last-event-id")
    if value is None:
        name, value = "after", request.query_params.get("after", "0")
    if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= _MAX_SEQUENCE):
        message = "must be the sequence of an event: 0 or a positive whole number"
        raise Problem(422, "INVALID_ARGUMENT", f"{name}: {message}", [FieldError(name, message)])
    return int(value)


class EventStream(Response):
    """An answer that goes on until the task rests, the client leaves or the gateway stops."""

    def __init__(self, here: Gateway, task_id: str, after: int) -> None:
        """Stream the events of a task after sequence `after`."""
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._here = here
        self._task_id = task_id
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        context.set_remaining_seconds(None)
        over = asyncio.ensure_future(first_of(self._here.stopping.wait(), _gone(receive)))
        self._here.open_event_streams += 1
        try:
            with self._here.metrics.event_streams.track_inprogress():
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async with contextlib.aclosing(self._frames(over)) as frames:
                    async for frame in frames:
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._here.open_event_streams -= 1
            over.cancel()

    async def _frames(self, over: "asyncio.Future[None]") -> AsyncGenerator[bytes, None]:
        yield b"retry: 1000\n\n"
        followed = self._here.watcher.follow(
            self._task_id, self._after, stop=over, tick_seconds=self._here.settings.keepalive_seconds
        )
        async with contextlib.aclosing(followed):
            async for event in followed:
                yield b": still here\n\n" if event is None else frame(event)


def frame(event: tasks_pb2.TaskEvent) -> bytes:
    """One event on the wire; only stored ones have an id, so that a client resumes after the last of those."""
    name, data = messages.event(event)
    identity = f"id: {event.sequence}\n" if event.sequence else ""
    return f"{identity}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


route = PlainRoute("/api/tasks/{task_id}/events", events, methods=["GET"])
