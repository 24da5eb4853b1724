"""HTTP/1.1 as uvicorn speaks it, with limits on what comes before the body: its size and its time."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import PROBLEM_TYPE, Problem

MAX_HEAD_BYTES = 16 * 1024


class HeadTooLargeError(Exception):
    """Request line and headers are larger than MAX_HEAD_BYTES."""


class GatewayProtocol(HttpToolsProtocol):
    """One connection.

    uvicorn's own has no limit on headers, and waits for them for ever: 200 sockets that send a byte now and then would
    hold 200 file descriptors.
    """

    def __init__(self, *arguments: Any, head_seconds: float, **keywords: Any) -> None:
        """`head_seconds`: how long request line and headers may take to come."""
        super().__init__(*arguments, **keywords)
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_in_head = False
        self._is_too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; a head that goes on over many of them is counted."""
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
        self._head_bytes = 0
        self._is_in_head = True
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._head_arrived()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._is_too_large = True
            raise HeadTooLargeError  # the parser stops, and data_received answers
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request with a problem, and close."""
        problem = Problem(400, "MALFORMED_REQUEST", "this is not HTTP/1.1")
        if self._is_too_large:
            problem = Problem(431, "HEADERS_TOO_LARGE", f"the headers must be at most {MAX_HEAD_BYTES} bytes")
        body = json.dumps(problem.document()).encode("ascii")
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {PROBLEM_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_seconds, self._give_up)

    def _head_arrived(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()
