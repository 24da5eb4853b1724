"""One HTTP/1.1 connection: limits of time for all that a client can delay."""

import asyncio
import json
import socket
import struct
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import PROBLEM_TYPE, Problem
from gateway.serving.connections import Connections

MAX_HEAD_BYTES = 16 * 1024

PIECE_BYTES = 32 * 1024
"""The most that is written at once. The next piece waits until the one before has left this process."""

MIN_BYTES_PER_SECOND = 1024
"""A client that takes less of a response is cut off after a while."""

ABORT = "frontispiece.abort"
"""The ASGI extension that closes the connection of a request at once."""


class HeadTooLargeError(Exception):
    """Request line and headers are larger than MAX_HEAD_BYTES."""


class GatewayProtocol(HttpToolsProtocol):
    """A connection that is closed when its client takes too long, whatever bytes arrive meanwhile.

    uvicorn's own protocol has one timer, for an idle connection, and any byte stops it. Here a connection without a
    request in progress always has a timer: for the head of a request, for the rest of a body that the response did not
    wait for, and for the time between two requests. The time of a request itself is that of its deadline, of its body
    (gateway.middleware.limits) and of its response, which _Reader measures.
    """

    def __init__(
        self,
        *arguments: Any,
        connections: Connections,
        head_seconds: float,
        idle_seconds: float,
        stalled_seconds: float,
        **keywords: Any,
    ) -> None:
        """Count the connection in `connections`.

        `head_seconds`: the time for request line and headers. `idle_seconds`: the time between requests.
        `stalled_seconds`: how long a client may read more slowly than MIN_BYTES_PER_SECOND.
        """
        super().__init__(*arguments, **keywords)
        self.address = ""
        self._connections = connections
        self._head_seconds = head_seconds
        self._idle_seconds = idle_seconds
        self._stalled_seconds = stalled_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._reader = _Reader(stalled_seconds, self._cut_slow_reader)
        self._head_bytes = 0
        self._is_in_head = False
        self._is_in_message = False
        self._is_too_large = False
        self._requests = 0  # whose response is not complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it, and start the timer of the first request."""
        super().connection_made(transport)
        self.address = self._connections.bounded_address(transport.get_extra_info("peername"))
        transport.set_write_buffer_limits(high=PIECE_BYTES // 2, low=0)
        if refusal := self._connections.admit(self):
            self._respond(Problem(refusal.status, "TOO_MANY_CONNECTIONS", refusal.detail))
        else:
            self._wait(self._head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_waiting()
        self._reader.resume(0)
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes, and count them while they belong to a head."""
        if self.transport.is_closing():
            return
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._is_too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self._abort}}
        self._head_bytes = 0
        self._is_in_message = True
        if not self._is_in_head:
            self._is_in_head = True
            if not self._requests:
                self._wait(self._head_seconds)

    def on_headers_complete(self) -> None:
        """The head of the request is complete."""
        self._is_in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise HeadTooLargeError  # the parser stops, and data_received responds
        self._stop_waiting()
        self._connections.set_idle(self, False)
        self._requests += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body of the request is complete."""
        super().on_message_complete()
        self._is_in_message = False
        if not self._requests:  # the response was earlier than the end of the body
            self._wait(self._idle_seconds)

    def on_response_complete(self) -> None:
        """A response is complete: begin the next request, or wait for one."""
        self._requests -= 1
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if not self._requests:
            if self.transport.is_closing():
                self._wait(self._stalled_seconds)  # for the client to read the rest
            else:
                self._wait(self._head_seconds if self._is_in_message else self._idle_seconds)
            self._connections.set_idle(self, True)

    def pause_writing(self) -> None:
        """The client has not read the last piece yet."""
        super().pause_writing()
        self._reader.pause(self.loop, self.transport.get_write_buffer_size)

    def resume_writing(self) -> None:
        """The client has read the last piece."""
        self._reader.resume(self.loop.time())
        super().resume_writing()

    def give_way(self) -> None:
        """Close the connection, which is in no request."""
        self._close()

    def send_400_response(self, msg: str) -> None:
        """Respond to an invalid request with a problem document, and close the connection."""
        problem = Problem(400, "MALFORMED_REQUEST", "the request is not HTTP/1.1")
        if self._is_too_large:
            problem = Problem(431, "HEADERS_TOO_LARGE", f"the headers must be at most {MAX_HEAD_BYTES} bytes")
        self._respond(problem)

    def _respond(self, problem: Problem) -> None:
        body = json.dumps(problem.document()).encode("ascii")
        retry = "retry-after: 5\r\n" if problem.status in {429, 503} else ""
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n{retry}"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
        self._wait(self._head_seconds)

    def _wait(self, seconds: float) -> None:
        """Close the connection after `seconds` without a request."""
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if self._is_in_message or self.transport.get_write_buffer_size() or self.transport.is_closing():
            self._abort()  # closing would wait for the client
        else:
            self.transport.close()

    def _cut_slow_reader(self) -> None:
        self._connections.note("slow_reader", self.address)
        self._abort()

    def _abort(self) -> None:
        """Close the connection at once. The kernel does not go on sending what it holds, either."""
        if connection := self.transport.get_extra_info("socket"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Reader:
    """Measures how fast a client takes what is waiting for it, and cuts it off below MIN_BYTES_PER_SECOND.

    Only time in which something waits counts, so the client does not pay for a slow service.
    """

    def __init__(self, seconds: float, cut: Any) -> None:
        """Call `cut` after `seconds` below the minimum."""
        self._seconds = seconds
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: Any = None
        self._began = self._waited = 0.0
        self._left = self._taken = 0

    def pause(self, loop: asyncio.AbstractEventLoop, waiting: Any) -> None:
        """`waiting()` bytes wait for the client from now on."""
        if self._timer is None:
            self._began, self._waiting, self._left = loop.time(), waiting, waiting()
            self._timer = loop.call_later(max(0.0, self._seconds - self._waited), self._check, loop)

    def resume(self, now: float) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._count(now, 0)
            if self._taken >= MIN_BYTES_PER_SECOND * self._waited:
                self._waited, self._taken = 0.0, 0

    def _count(self, now: float, left: int) -> None:
        self._waited += max(0.0, now - self._began)
        self._taken += self._left - left

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._count(loop.time(), self._waiting())
        if self._taken < MIN_BYTES_PER_SECOND * self._waited:
            self._cut()
        else:
            self._waited, self._taken = 0.0, 0
            self.pause(loop, self._waiting)
