"""Events from the engine thread to one caller. Only the newest progress is kept, so a slow reader costs no memory."""

import asyncio
from collections.abc import AsyncGenerator

from services.generator.models import Event, Image


class EventBuffer:
    """The events of one request, in order. A newer Queued, Progress or Preview replaces an unread one of its type.

    `put` and `fail` may be called on any thread. Nothing is delivered after an image or a failure.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver on `loop`."""
        self._loop = loop
        self._events: dict[type, Event] = {}
        self._error: Exception | None = None
        self._closed = False
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        """Deliver an event."""
        self._call(event, None)

    def fail(self, error: Exception) -> None:
        """End the stream with an error."""
        self._call(None, error)

    async def stream(self) -> AsyncGenerator[Event]:
        """The events up to the image, which is the last. Raises the error given to `fail`."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events, self._events = list(self._events.values()), {}
            for event in events:
                yield event
                if isinstance(event, Image):
                    return
            if self._error is not None:
                raise self._error

    def _call(self, event: Event | None, error: Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._receive, event, error)
        except RuntimeError:  # the loop is closed: the process ends
            return

    def _receive(self, event: Event | None, error: Exception | None) -> None:
        if self._closed:
            return
        if event is None:
            self._closed, self._error = True, error
        else:
            self._closed = isinstance(event, Image)
            self._events.pop(type(event), None)  # the newest goes to the end, which keeps the order
            self._events[type(event)] = event
        self._arrived.set()
